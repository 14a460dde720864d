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
 * Shows how an application can offer operations on batches with the library's API. The library's own endpoint, {@code
 * /actuator/batchpersistence}, offers more if its access is raised, as it is here.
 *
 * <p>{@code reason} is a glob for the reason of the last failure.
 */
@RestController
class OperatorController {

    private final BatchPersistence persistence;
    private final Set<String> collectors;

    OperatorController(BatchPersistence persistence, Set<String> collectors) {
        this.persistence = persistence;
        this.collectors = new TreeSet<>(collectors);
    }

    /** The response of an operation on batches: the number of affected ones. */
    record Done(long batches) {}

    /** The response of pausing or resuming. */
    record Sending(String collector, boolean paused) {}

    /**
     * Sends waiting batches now, including those that {@code exclude_failure_reasons} excludes from automatic recovery.
     */
    @PostMapping("/batches/recover")
    Done recover(
            @RequestParam(required = false) @Nullable String collector,
            @RequestParam(required = false) @Nullable String reason) {
        return done(persistence::recover, collector, reason);
    }

    /** Replays dead letters with all their retries. */
    @PostMapping("/batches/replay")
    Done replay(
            @RequestParam(required = false) @Nullable String collector,
            @RequestParam(required = false) @Nullable String reason,
            @RequestParam(name = "per_second", defaultValue = "0") double perSecond) {
        return done(selector -> persistence.replay(selector, perSecond), collector, reason);
    }

    /** Discards dead letters. Not a POST, which a page of any site could make a browser send here. */
    @DeleteMapping("/batches/dead")
    Done discard(
            @RequestParam(required = false) @Nullable String collector,
            @RequestParam(required = false) @Nullable String reason) {
        return done(selector -> persistence.discard(selector.states(BatchState.DEAD)), collector, reason);
    }

    /** Pauses sending to the collector, even across restarts; batches for it are still accepted. */
    @PostMapping("/batches/pause/{collector}")
    Sending pause(@PathVariable String collector) {
        persistence.pause(known(collector));
        return new Sending(collector, true);
    }

    /** Resumes sending. */
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
        } catch (IllegalArgumentException e) {
            // A negative rate.
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
