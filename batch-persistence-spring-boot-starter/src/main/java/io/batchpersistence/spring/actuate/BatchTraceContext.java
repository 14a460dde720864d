package io.batchpersistence.spring.actuate;

import io.batchpersistence.SingleLine;
import io.micrometer.tracing.TraceContext;
import io.micrometer.tracing.Tracer;
import io.micrometer.tracing.propagation.Propagator;
import java.util.HashMap;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Keeps the trace in which a batch is persisted with the batch, as it would go over a wire: by default under the W3C names
 * {@code traceparent} and {@code tracestate}, in the batch's context. {@link BatchObservations} goes on with it when the batch is
 * sent, be that after a restart. Where the caller has set one of these names himself, or there is no trace, the context stays as
 * it is. Thread-safe.
 */
public final class BatchTraceContext implements UnaryOperator<Map<String, String>> {

    private static final Logger LOG = SingleLine.logger(BatchTraceContext.class);

    private final Tracer tracer;
    private final Propagator propagator;

    /**
     * Asks these.
     *
     * @param tracer knows the current trace
     * @param propagator knows how to write it
     */
    public BatchTraceContext(Tracer tracer, Propagator propagator) {
        this.tracer = tracer;
        this.propagator = propagator;
    }

    /**
     * Adds the current trace.
     *
     * @param given the context that the caller gave
     * @return the same, or a copy with the trace; that a trace can't be kept is no reason not to keep a batch
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
