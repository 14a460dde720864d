package io.batchpersistence.spring.actuate;

import io.batchpersistence.internal.log.LogSanitizer;
import io.micrometer.tracing.TraceContext;
import io.micrometer.tracing.Tracer;
import io.micrometer.tracing.propagation.Propagator;
import java.util.HashMap;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Keeps the trace in which a batch is persisted with the batch, in the format in which it is propagated over a network:
 * by default as {@code traceparent} and {@code tracestate} (W3C) in the batch's context. {@link BatchObservations}
 * continues this trace when the batch is sent, even after a restart. If the caller has set one of these names, or there
 * is no trace, the context is not changed. Thread-safe.
 */
public final class BatchTraceContext implements UnaryOperator<Map<String, String>> {

    private static final Logger LOG = LogSanitizer.logger(BatchTraceContext.class);

    private final Tracer tracer;
    private final Propagator propagator;

    /**
     * Creates a trace context.
     *
     * @param tracer provides the current trace
     * @param propagator writes the trace into a context
     */
    public BatchTraceContext(Tracer tracer, Propagator propagator) {
        this.tracer = tracer;
        this.propagator = propagator;
    }

    /**
     * Adds the current trace.
     *
     * @param given the context given by the caller
     * @return the given context, or a copy with the trace; a failure to keep the trace doesn't prevent persisting the
     *     batch
     */
    @Override
    public Map<String, String> apply(Map<String, String> given) {
        try {
            TraceContext current = tracer.currentTraceContext().context();
            if (current == null || propagator.fields().stream().anyMatch(given::containsKey)) {
                return given;
            }
            Map<String, String> more = new HashMap<>(given);
            propagator.inject(current, more, BatchTraceContext::put);
            return more;
        } catch (RuntimeException e) {
            LOG.debug("The current trace could not be added to the context of a batch", e);
            return given;
        }
    }

    private static void put(@Nullable Map<String, String> carrier, String key, @Nullable String value) {
        if (carrier != null && value != null) {
            carrier.put(key, value);
        }
    }
}
