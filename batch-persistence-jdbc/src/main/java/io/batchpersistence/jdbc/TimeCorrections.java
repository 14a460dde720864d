package io.batchpersistence.jdbc;

import io.batchpersistence.jdbc.Tx.Reader;
import java.sql.SQLException;
import java.util.List;
import java.util.function.BooleanSupplier;
import java.util.function.ToLongFunction;

/**
 * Corrects times that lie further in the future of the database's clock than any operation can have set them, because
 * the clock was set back. Each correction is idempotent, and can run on many instances at once: what one has corrected,
 * the next one does not find. Locked rows are skipped: the transaction that holds the lock gives them a new time.
 */
final class TimeCorrections {

    private static final int CHUNK_SIZE = 500;

    private final Database database;
    private final CounterTable counters;
    private final BooleanSupplier stops;

    /** Creates the corrections. Between two transactions they check whether to stop. */
    TimeCorrections(Database database, CounterTable counters, BooleanSupplier stops) {
        this.database = database;
        this.counters = counters;
        this.stops = stops;
    }

    /**
     * Makes ages that would begin in the future begin now, but only while this machine's clock agrees with the
     * database's. If the database's clock is wrong and is put right later, every corrected batch would seem older by
     * that error. Without the correction, batches are only kept for longer.
     */
    void ages() throws SQLException {
        if (!database.agreesWithCallers()) {
            return;
        }
        for (String type : counters.collectors().keySet()) {
            for (int state = 0; state <= 2; state++) {
                inChunks(
                        "since",
                        "state = ? AND collector_type = ? AND since > {time}",
                        List.<Object>of(state, TextEscaping.escape(type)),
                        "{time}");
            }
        }
    }

    /** Ends waits now that are longer than any wait of their collector type can be, in milliseconds. */
    void waits(ToLongFunction<String> longest) throws SQLException {
        for (String type : counters.collectors().keySet()) {
            pending(type, "due_at > {time} + ?", "{time}", longest.applyAsLong(type));
        }
    }

    /**
     * Corrects what was written before the clock was set back. What was due then is due now; no wait is longer than the
     * longest possible one; leases end no later than if they began now.
     *
     * @param from the latest time that the clock had shown
     * @param me this instance's number
     * @param longestWait the longest wait of a pending batch, in milliseconds by collector type
     * @param longestTimeout the longest time in flight of a batch, in milliseconds
     * @return whether everything has been corrected
     */
    boolean afterSetBack(long from, long me, ToLongFunction<String> longestWait, long longestTimeout)
            throws SQLException {
        database.write(tx -> tx.update("""
                UPDATE {p}instance SET seen_at = {time}, lease_until = {time} + lease_millis
                WHERE lease_until > {time} + lease_millis AND gone_at IS NULL"""));
        database.write(tx -> tx.update("UPDATE {p}instance SET seen_at = {time} WHERE seen_at > {time}"));
        inChunks(
                "due_at",
                "state = {in_flight} AND owner = ? AND due_at > {time} + ?",
                List.of(me, longestTimeout),
                "{time} + ?",
                longestTimeout);
        for (String type : counters.collectors().keySet()) {
            long longest = longestWait.applyAsLong(type);
            database.write(tx -> tx.update("""
                    UPDATE {p}outage SET next_probe_at = {time} WHERE collector_type = ? AND next_probe_at > {time}
                    AND (next_probe_at <= ? OR next_probe_at > {time} + ?)""", TextEscaping.escape(type), from, Math.max(longest, longestTimeout)));
            pending(type, "due_at > {time} AND due_at <= ?", "{time}", from);
            // These wait as long as they still had to wait when the clock was set back.
            pending(type, "due_at > {time} + ?", "{time} + LEAST(?, GREATEST(0, due_at - ?))", longest, longest, from);
        }
        ages();
        return !stops.getAsBoolean();
    }

    private void pending(String type, String condition, String time, long value, Object... newTime)
            throws SQLException {
        inChunks(
                "due_at",
                "state = {pending} AND collector_type = ? AND " + condition,
                List.<Object>of(TextEscaping.escape(type), value),
                time,
                newTime);
    }

    private void inChunks(String column, String condition, List<?> values, String time, Object... newTime)
            throws SQLException {
        int corrected;
        do {
            corrected = database.write(tx -> {
                List<Long> seqs = tx.all(
                        "SELECT seq FROM {p}batch WHERE " + condition + " ORDER BY " + column
                                + " LIMIT ? FOR UPDATE SKIP LOCKED",
                        Reader.LONG,
                        Tx.values(values, CHUNK_SIZE));
                if (!seqs.isEmpty()) {
                    tx.update(
                            "UPDATE {p}batch SET " + column + " = " + time + " WHERE seq IN " + Tx.in(seqs),
                            Tx.values(List.of(newTime), seqs));
                    tx.afterCommit(counters::changed);
                }
                return seqs.size();
            });
        } while (corrected == CHUNK_SIZE && !stops.getAsBoolean());
    }
}
