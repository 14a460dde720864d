package io.batchpersistence.jdbc;

import io.batchpersistence.jdbc.Tx.Reader;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.spi.SharedOutages;
import java.sql.SQLException;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Map.Entry;
import java.util.function.Consumer;

/** The outages shared by all instances: one row for each collector that is down. Thread-safe. */
final class Outages implements SharedOutages {

    private final Database database;
    private final InstanceMembership membership;
    private final Runnable requireOpen;
    private final Consumer<String> ifDown;

    /**
     * Creates a view of the shared outages; all state is in the database.
     *
     * @param requireOpen throws once the store is closed
     * @param ifDown receives a collector type that this instance has found to be down
     */
    Outages(Database database, InstanceMembership membership, Runnable requireOpen, Consumer<String> ifDown) {
        this.database = database;
        this.membership = membership;
        this.requireOpen = requireOpen;
        this.ifDown = ifDown;
    }

    private <T> T call(String what, Database.Call<T> call) {
        requireOpen.run();
        // Throws unless this instance is registered; once it is, the tables exist.
        membership.number();
        return database.call(what, call);
    }

    @Override
    public Map<String, Outage> current() {
        return call("looking for outages", () -> {
            Map<String, Outage> outages = new HashMap<>();
            for (Entry<String, Outage> each : database.read(tx -> tx.all(
                    "SELECT collector_type, {now} - since, next_probe_at - {now}, probes, last_failure FROM {p}outage",
                    row -> Map.entry(
                            TextEscaping.unescape(row.getString(1)),
                            new Outage(
                                    Duration.ofMillis(row.getLong(2)),
                                    Duration.ofMillis(row.getLong(3)),
                                    row.getInt(4),
                                    TextEscaping.unescape(row.getString(5))))))) {
                outages.put(each.getKey(), each.getValue());
            }
            return outages;
        });
    }

    @Override
    public boolean began(String collectorType, Duration untilProbe, String lastFailure) {
        String type = TextEscaping.escape(NewBatch.checkedCollectorType(collectorType));
        ifDown.accept(collectorType);
        return call("noting an outage", () -> {
            try {
                return database.write(tx -> {
                    if (tx.one("SELECT probes FROM {p}outage WHERE collector_type = ?", Reader.LONG, type) != null) {
                        return false;
                    }
                    tx.update("""
                            INSERT INTO {p}outage (collector_type, since, next_probe_at, probes, last_failure)
                            VALUES (?, {time}, {time} + ?, 0, ?)""", type, untilProbe.toMillis(), Row.escaped(lastFailure));
                    return true;
                });
            } catch (SQLException e) {
                if (Dialect.isDuplicate(e)) {
                    // Another instance recorded the outage first.
                    return false;
                }
                throw e;
            }
        });
    }

    private record Probes(int taken, long untilNext) {}

    /** Reads before it writes: mostly another instance has taken the probe, or there is nothing to send. */
    @Override
    public int takeProbe(String collectorType, Duration timeout) {
        String type = TextEscaping.escape(collectorType);
        return call("asking for a probe", () -> {
            Probes probes = database.read(tx -> tx.one(
                    "SELECT probes, next_probe_at - {now} FROM {p}outage WHERE collector_type = ?",
                    row -> new Probes(row.getInt(1), row.getLong(2)),
                    type));
            if (probes == null) {
                return NOT_DOWN;
            }
            if (probes.untilNext() > 0) {
                return NOT_DUE;
            }
            if (database.read(tx -> tx.one("""
                            SELECT seq FROM {p}batch WHERE collector_type = ? AND state = {pending} AND due_at <= {now}
                            ORDER BY due_at LIMIT 1""", Reader.LONG, type)) == null) {
                return NOTHING_TO_SEND;
            }
            int number = probes.taken() + 1;
            int taken = database.write(tx -> tx.update("""
                    UPDATE {p}outage SET probes = ?, next_probe_at = {time} + ? WHERE collector_type = ? AND probes = ?
                    AND next_probe_at <= {now}""", number, timeout.toMillis(), type, probes.taken()));
            return taken == 1 ? number : NOT_DUE;
        });
    }

    @Override
    public void nextProbe(String collectorType, int probe, Duration untilProbe) {
        String type = TextEscaping.escape(collectorType);
        String next = "UPDATE {p}outage SET next_probe_at = {time} + ? WHERE collector_type = ?";
        call(
                "noting when a collector is probed next",
                () -> database.write(tx -> probe == ANY_PROBE
                        ? tx.update(next, untilProbe.toMillis(), type)
                        : tx.update(next + " AND probes = ?", untilProbe.toMillis(), type, probe)));
    }

    @Override
    public boolean ended(String collectorType) {
        return call(
                "noting the end of an outage",
                () -> database.write(tx -> tx.update(
                                "DELETE FROM {p}outage WHERE collector_type = ?", TextEscaping.escape(collectorType)))
                        > 0);
    }
}
