package io.batchpersistence.spring.actuate;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchStats;
import io.batchpersistence.BatchStats.Fallback;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.Corruption;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.health.contributor.AbstractHealthIndicator;
import org.springframework.boot.health.contributor.Health;
import org.springframework.boot.health.contributor.Status;

/**
 * The health of batch persistence. Thread-safe.
 *
 * <ul>
 *   <li>{@code DOWN}: batches are not accepted at the moment; the details contain the store's reason.
 *   <li>{@link #DEGRADED}: batches are accepted and nothing is lost, but an operator should investigate: the database
 *       is unavailable and batches wait for it on the local disk, a collector is down or paused, the oldest batch has
 *       waited for too long, the store is nearly full, batches were recently lost to damage, or batches have neither a
 *       sender nor a listener. The detail {@code warnings} names the cause and what to do. Restarting the application
 *       would not help, so this status does not change the application's overall status, and HTTP returns 200; add it
 *       to {@code management.endpoint.health.status.order} to change that.
 *   <li>{@code UP}: everything else.
 * </ul>
 */
public final class BatchPersistenceHealthIndicator extends AbstractHealthIndicator implements BatchListener {

    /** Working, but an operator should investigate. */
    public static final Status DEGRADED = new Status("DEGRADED");

    /** Limits the details: a health response is not a list of collectors. */
    private static final int MOST_COLLECTORS_SHOWN = 50;

    private final BatchPersistence persistence;
    private final Duration maxPendingAge;
    private final double maxFillLevel;
    private final Duration corruptionWindow;
    private final Clock clock;
    private volatile @Nullable Damage lastDamage;

    private record Damage(Instant at, Corruption what) {}

    /**
     * Creates a health indicator.
     *
     * @param persistence the batch persistence to watch
     * @param maxPendingAge age of the oldest undelivered batch from which on health is degraded
     * @param maxFillLevel share of a limit in use, from 0 to 1, from which on health is degraded
     * @param corruptionWindow how long health is degraded after batches were lost to damage on disk
     * @param clock the current time
     */
    public BatchPersistenceHealthIndicator(
            BatchPersistence persistence,
            Duration maxPendingAge,
            double maxFillLevel,
            Duration corruptionWindow,
            Clock clock) {
        super("Batch persistence does not answer");
        this.persistence = persistence;
        this.maxPendingAge = maxPendingAge;
        this.maxFillLevel = maxFillLevel;
        this.corruptionWindow = corruptionWindow;
        this.clock = clock;
    }

    @Override
    public void onCorrupted(Corruption damage) {
        // A record that was being written during a power failure is damage, too, but its batch was never acknowledged.
        if (damage.batches() > 0) {
            lastDamage = new Damage(clock.instant(), damage);
        }
    }

    @Override
    protected void doHealthCheck(Health.Builder builder) {
        BatchStats stats = persistence.stats();
        Map<String, LaneStatus> lanes = persistence.lanes();
        CollectorStats total = stats.total();
        Duration oldest = age(total);
        List<String> unhandled = lanes.entrySet().stream()
                .filter(lane -> lane.getValue().unhandled())
                .map(Map.Entry::getKey)
                .sorted()
                .toList();

        builder.withDetail("pending", total.pending())
                .withDetail("inFlight", total.inFlight())
                .withDetail("dead", total.dead())
                .withDetail("oldestPendingAge", oldest.toString())
                .withDetail("fillLevel", Math.round(stats.fillLevel() * 1_000) / 1_000.0)
                .withDetail("collectors", collectors(stats, lanes));
        BatchStats.Instance instance = stats.instance();
        if (instance != null) {
            builder.withDetail(
                    "instance",
                    Map.<String, Object>of(
                            "name", instance.name(), "number", instance.number(), "alive", instance.alive()));
        }
        if (!unhandled.isEmpty()) {
            builder.withDetail("unhandledCollectorTypes", unhandled);
        }
        Fallback fallback = stats.fallback();
        if (fallback != null) {
            builder.withDetail("fallback", fallback(fallback));
        }
        List<String> warnings = warnings(stats, oldest, unhandled, lanes);
        if (!warnings.isEmpty()) {
            builder.withDetail("warnings", warnings);
        }
        if (stats.problem() != null) {
            builder.down().withDetail("problem", stats.problem());
        } else {
            builder.status(warnings.isEmpty() ? Status.UP : DEGRADED);
        }
    }

    private List<String> warnings(
            BatchStats stats, Duration oldest, List<String> unhandled, Map<String, LaneStatus> lanes) {
        List<String> warnings = new ArrayList<>();
        if (stats.fallback() != null) {
            addWarnings(stats.fallback(), warnings);
        }
        lanes.entrySet().stream()
                .sorted(Map.Entry.comparingByKey())
                .filter(lane -> lane.getValue().outageSince() != null)
                .limit(MOST_COLLECTORS_SHOWN)
                .forEach(lane -> warnings.add("Collector " + LogSanitizer.of(lane.getKey()) + " is down since "
                        + lane.getValue().outageSince() + ": "
                        + LogSanitizer.of(String.valueOf(lane.getValue().lastFailure()))
                        + ". Its batches are kept and sent when it is back. Bring it back before batch_ttl is over."));
        lanes.entrySet().stream()
                .sorted(Map.Entry.comparingByKey())
                .filter(lane -> lane.getValue().paused())
                .limit(MOST_COLLECTORS_SHOWN)
                .forEach(lane -> warnings.add("Collector " + LogSanitizer.of(lane.getKey())
                        + " is paused: nothing is sent to it until it is resumed."));
        if (oldest.compareTo(maxPendingAge) >= 0) {
            warnings.add("The oldest batch has waited for " + oldest + " (health.max_pending_age is " + maxPendingAge
                    + "). See why its collector does not take it: before batch_ttl is over, or it expires.");
        }
        if (stats.fillLevel() >= maxFillLevel) {
            warnings.add(String.format(
                    Locale.ROOT,
                    "%d of %d batches and %d of %d bytes are in use (health.max_fill_level is %s). Raise max_pending_batches or"
                            + " max_disk_usage, replay or discard dead letters, or see why collectors do not take batches;"
                            + " once full, overflow_policy decides.",
                    stats.batches(),
                    stats.maxBatches(),
                    stats.diskUsage(),
                    stats.maxDiskUsage(),
                    maxFillLevel));
        }
        Damage damage = lastDamage;
        if (damage != null && clock.instant().isBefore(damage.at().plus(corruptionWindow))) {
            warnings.add("Batches were lost to damage that was found at " + damage.at() + " in "
                    + LogSanitizer.of(String.valueOf(damage.what().file()))
                    + ": " + LogSanitizer.of(damage.what().reason())
                    + ". See the log for what it hit, and check the disk that it is on"
                    + (damage.what().quarantinedTo() == null
                            ? "."
                            : "; the damaged bytes are kept in "
                                    + LogSanitizer.of(
                                            String.valueOf(damage.what().quarantinedTo())) + "."));
        }
        BatchStats.Unreadable unreadable = stats.unreadable();
        if (unreadable != null) {
            warnings.add(unreadable.batches() + " batches can't be read at the moment and are not sent: "
                    + unreadable.first());
        }
        if (!unhandled.isEmpty()) {
            warnings.add("No sender takes batches of " + LogSanitizer.of(String.join(", ", unhandled))
                    + ". Add a BatchSender bean with"
                    + " @CollectorType, or named like that, or a listener for RecoveredBatchEvent.");
        }
        return warnings;
    }

    private static Map<String, Object> fallback(Fallback fallback) {
        Map<String, Object> details = new LinkedHashMap<>();
        details.put("directory", fallback.place());
        details.put("waiting", fallback.batches());
        details.put("inUse", fallback.reason() != null);
        if (fallback.problem() != null) {
            details.put("problem", fallback.problem());
        }
        return details;
    }

    private void addWarnings(Fallback fallback, List<String> warnings) {
        String place = LogSanitizer.of(fallback.place());
        if (fallback.reason() != null) {
            warnings.add(
                    "The database can't be used: " + fallback.reason()
                            + ". New batches are kept on this instance's disk, in "
                            + place + ", where " + fallback.batches()
                            + " wait, and are moved to the database when it is back. What is in the database is not sent meanwhile.");
        } else if (fallback.batches() > 0) {
            warnings.add(fallback.batches()
                    + " batches from a time without the database are still on this instance's disk, in " + place
                    + ", to be moved to the database. If they stay there, the log says why.");
        }
        if (fallback.problem() != null) {
            warnings.add("Batches can't be kept in " + place + ", should the database be away: " + fallback.problem());
        }
        if (fallback.fillLevel() >= maxFillLevel) {
            warnings.add(String.format(
                    Locale.ROOT,
                    "%d of %d batches and %d of %d bytes are in use in %s (health.max_fill_level is %s). Once it is full,"
                            + " overflow_policy decides until the database is back.",
                    fallback.batches(),
                    fallback.maxBatches(),
                    fallback.diskUsage(),
                    fallback.maxDiskUsage(),
                    place,
                    maxFillLevel));
        }
    }

    private Map<String, Object> collectors(BatchStats stats, Map<String, LaneStatus> lanes) {
        TreeSet<String> names = new TreeSet<>(stats.collectors().keySet());
        names.addAll(lanes.keySet());
        Map<String, Object> details = new LinkedHashMap<>();
        names.stream().limit(MOST_COLLECTORS_SHOWN).forEach(name -> {
            CollectorStats collector = stats.collector(name);
            Map<String, Object> detail = new LinkedHashMap<>();
            detail.put("pending", collector.pending());
            detail.put("inFlight", collector.inFlight());
            detail.put("dead", collector.dead());
            LaneStatus lane = lanes.get(name);
            if (lane != null) {
                detail.put("lane", lane.state().name());
                if (lane.outageSince() != null) {
                    detail.put("outageSince", lane.outageSince().toString());
                }
                if (lane.nextProbeAt() != null) {
                    detail.put("nextProbeAt", lane.nextProbeAt().toString());
                }
                if (lane.lastFailure() != null) {
                    detail.put("lastFailure", lane.lastFailure());
                }
            }
            details.put(name, detail);
        });
        return details;
    }

    private Duration age(CollectorStats total) {
        Instant oldest = total.oldestPending();
        Instant now = clock.instant();
        return oldest == null || oldest.isAfter(now) ? Duration.ZERO : Duration.between(oldest, now);
    }
}
