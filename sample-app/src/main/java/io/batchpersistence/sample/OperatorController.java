package io.batchpersistence.sample;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.ToLongFunction;
import org.jspecify.annotations.Nullable;
import org.springframework.http.HttpStatus;
import org.springframework.web.bind.annotation.DeleteMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/**
 * How an application of its own lets operators do something about batches, with the library's API. What the library's own
 * endpoint, {@code /actuator/batchpersistence}, can do where its access is raised, as here, is more.
 *
 * <p>{@code reason} is a glob over the reason of the last failure.
 */
@RestController
class OperatorController {

    private final BatchPersistence persistence;
    private final Set<String> collectors;

    OperatorController(BatchPersistence persistence, Set<String> collectors) {
        this.persistence = persistence;
        this.collectors = new TreeSet<>(collectors);
    }

    /**
     * What is answered.
     *
     * @param batches how many it was done to
     */
    record Done(long batches) {}

    /**
     * What is answered.
     *
     * @param collector the collector type
     * @param paused whether nothing is sent to it
     */
    record Sending(String collector, boolean paused) {}

    /** Batches that wait are sent now, also those that {@code exclude_failure_reasons} leaves to this. */
    @PostMapping("/batches/recover")
    Done recover(
            @RequestParam(required = false) @Nullable String collector,
            @RequestParam(required = false) @Nullable String reason) {
        return done(persistence::recover, collector, reason);
    }

    /** Dead letters get all their retries again. */
    @PostMapping("/batches/replay")
    Done replay(
            @RequestParam(required = false) @Nullable String collector,
            @RequestParam(required = false) @Nullable String reason,
            @RequestParam(name = "per_second", defaultValue = "0") double perSecond) {
        return done(selector -> persistence.replay(selector, perSecond), collector, reason);
    }

    /** Dead letters that nobody wants any more. Not with POST, which any page that a browser shows could send here. */
    @DeleteMapping("/batches/dead")
    Done discard(
            @RequestParam(required = false) @Nullable String collector,
            @RequestParam(required = false) @Nullable String reason) {
        return done(selector -> persistence.discard(selector.states(BatchState.DEAD)), collector, reason);
    }

    /** Nothing is sent to it, also after a restart, but everything is taken for it. */
    @PostMapping("/batches/pause/{collector}")
    Sending pause(@PathVariable String collector) {
        persistence.pause(known(collector));
        return new Sending(collector, true);
    }

    /** Goes on. */
    @PostMapping("/batches/resume/{collector}")
    Sending resume(@PathVariable String collector) {
        persistence.resume(known(collector));
        return new Sending(collector, false);
    }

    private Done done(ToLongFunction<BatchSelector> action, @Nullable String collector, @Nullable String reason) {
        try {
            BatchSelector selector = BatchSelector.all().failureReason(reason);
            return new Done(
                    action.applyAsLong(collector == null ? selector : selector.collectorTypes(known(collector))));
        } catch (IllegalArgumentException e) { // a rate below 0
            throw LimitedBody.problem(HttpStatus.BAD_REQUEST, String.valueOf(e.getMessage()), e);
        }
    }

    private String known(String collector) {
        if (!collectors.contains(collector)) {
            throw LimitedBody.problem(
                    HttpStatus.NOT_FOUND, "there is no collector '" + collector + "'; there are " + collectors, null);
        }
        return collector;
    }
}
