package io.batchpersistence.jdbc;

import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.FailedAttempt;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.codec.BatchHeader;
import io.batchpersistence.internal.codec.BatchLimits;
import io.batchpersistence.internal.codec.Compressions;
import io.batchpersistence.internal.codec.Crc32c;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.codec.EncodedPayload;
import io.batchpersistence.internal.codec.Formats;
import io.batchpersistence.internal.spi.StoreLimits;
import java.nio.charset.StandardCharsets;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * A row of the batch table, as stored: times on the database's clock. Some columns are read only where they are needed.
 *
 * @param seq its sequence number; larger than those of the batches persisted before it
 * @param owner the instance that has it in flight; 0 for none
 * @param earlierFailures in the stored form
 */
record Row(
        long seq,
        String id,
        String collectorType,
        BatchState state,
        long owner,
        long fence,
        long createdAt,
        @Nullable Long dueAt,
        @Nullable Long lastAttempt,
        int retryCount,
        @Nullable String reason,
        String earlierFailures,
        int entryCount,
        long bytes) {

    static final String COLUMNS =
            "seq, batch_id, collector_type, state, owner, fence, created_at, due_at, last_attempt,"
                    + " retry_count, reason, earlier_failures, entry_count, bytes";

    /**
     * The columns without the failures, which can be thousands of characters a row: for operations that change many
     * rows and return none of them.
     */
    static final String WITHOUT_FAILURES =
            COLUMNS.replace(" reason, earlier_failures,", " NULL AS reason, '' AS earlier_failures,");

    /** The columns for a summary. */
    static final String WITH_HEADER = COLUMNS + ", header";

    static final String WITH_PAYLOAD = WITH_HEADER + ", format, compression, raw_length, payload_crc, payload";

    static Row of(ResultSet row) throws SQLException {
        return new Row(
                row.getLong("seq"),
                TextEscaping.unescape(row.getString("batch_id")),
                TextEscaping.unescape(row.getString("collector_type")),
                state(row.getInt("state")),
                row.getLong("owner"),
                row.getLong("fence"),
                row.getLong("created_at"),
                number(row, "due_at"),
                number(row, "last_attempt"),
                row.getInt("retry_count"),
                TextEscaping.unescapeOrNull(row.getString("reason")),
                row.getString("earlier_failures"),
                row.getInt("entry_count"),
                row.getLong("bytes"));
    }

    private static @Nullable Long number(ResultSet row, String column) throws SQLException {
        long value = row.getLong(column);
        return row.wasNull() ? null : value;
    }

    static int number(BatchState state) {
        return switch (state) {
            case PENDING -> 0;
            case IN_FLIGHT -> 1;
            case DEAD -> 2;
        };
    }

    private static BatchState state(int number) {
        return switch (number) {
            case 0 -> BatchState.PENDING;
            case 1 -> BatchState.IN_FLIGHT;
            default -> BatchState.DEAD;
        };
    }

    /** Returns this row as claimed. */
    Row claimed(long by, long with, long until) {
        return new Row(
                seq,
                id,
                collectorType,
                BatchState.IN_FLIGHT,
                by,
                with,
                createdAt,
                until,
                lastAttempt,
                retryCount,
                reason,
                earlierFailures,
                entryCount,
                bytes);
    }

    // ---- failures --------------------------------------------------------------------------------

    /** The stored form of a reason, shortened as in the stores on disk. */
    static String escaped(String reason) {
        String shortened = StoreLimits.shortened(reason);
        // A lone surrogate, perhaps the result of shortening, is not a character: no database would accept it.
        return TextEscaping.escape(new String(shortened.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8));
    }

    /** The stored form of the failures before the last one. */
    static String escaped(List<FailedAttempt> earlier, Database database) {
        return earlier.stream()
                .map(failure -> line(database.storedMillis(failure.at()), escaped(failure.reason())))
                .collect(Collectors.joining("\n"));
    }

    private static String line(long at, String kept) {
        return at + " " + kept;
    }

    /** The earlier failures once there is a new last one, a line each: the very first one and the latest others. */
    String withLastAmongEarlier() {
        if (lastAttempt == null || reason == null) {
            return earlierFailures;
        }
        List<String> lines = new ArrayList<>(earlierFailures.lines().toList());
        if (lines.size() == FailedAttempt.MAX_EARLIER) {
            lines.remove(1);
        }
        lines.add(line(lastAttempt, TextEscaping.escape(reason)));
        return String.join("\n", lines);
    }

    private List<FailedAttempt> earlierFailures(Database database) {
        return earlierFailures
                .lines()
                .map(line -> {
                    int space = line.indexOf(' ');
                    return new FailedAttempt(
                            database.callerTime(Long.parseLong(line.substring(0, space))),
                            TextEscaping.unescape(line.substring(space + 1)));
                })
                .toList();
    }

    // ---- what callers get ------------------------------------------------------------------------

    BatchSummary summary(Database database, BatchHeader header) {
        return new BatchSummary(
                id,
                collectorType,
                state,
                database.callerTime(createdAt),
                database.callerTimeOrNull(lastAttempt),
                state == BatchState.DEAD ? null : database.callerTimeOrNull(dueAt),
                retryCount,
                reason,
                earlierFailures(database),
                header.context(),
                entryCount,
                bytes,
                seq);
    }

    PersistedBatch batch(Database database, Content content) {
        return new PersistedBatch(
                id,
                content.entries(),
                collectorType,
                database.callerTime(createdAt),
                database.callerTimeOrNull(lastAttempt),
                state == BatchState.DEAD ? null : database.callerTimeOrNull(dueAt),
                retryCount,
                reason,
                earlierFailures(database),
                content.header().context(),
                state);
    }

    /** A decoded batch. */
    record Content(BatchHeader header, List<LogEntry> entries) {}

    /** An encoded batch. */
    // Never modified.
    @SuppressWarnings("ArrayRecordComponent")
    record Encoded(int format, int compression, int rawLength, int crc, byte[] header, byte[] payload, int entryCount) {

        long bytes() {
            return (long) header.length + payload.length;
        }

        /**
         * Encodes a batch.
         *
         * @throws IllegalArgumentException if it is too large to be read again
         */
        static Encoded of(
                String id,
                String collectorType,
                List<LogEntry> entries,
                Map<String, String> context,
                JdbcStoreOptions options) {
            EncodedPayload encoded =
                    EncodedPayload.of(id, entries, options.format(), options.compression(), (raw, length) -> null, 0);
            byte[] payload = encoded.bytes();
            byte[] header = new BatchHeader(id, collectorType, context).encode();
            return new Encoded(
                    Formats.id(options.format()),
                    Compressions.id(encoded.compression()),
                    encoded.rawLength(),
                    Crc32c.of(payload, 0, payload.length),
                    header,
                    payload,
                    entries.size());
        }

        /** Reads the encoded batch from a row {@link #WITH_PAYLOAD}. */
        static Encoded of(ResultSet row) throws SQLException {
            return new Encoded(
                    row.getInt("format"),
                    row.getInt("compression"),
                    row.getInt("raw_length"),
                    row.getInt("payload_crc"),
                    row.getBytes("header"),
                    row.getBytes("payload"),
                    row.getInt("entry_count"));
        }

        /**
         * Decodes the batch.
         *
         * @throws DamagedPayloadException if the bytes are not those that were stored
         */
        Content decode() {
            if (Crc32c.of(payload, 0, payload.length) != crc) {
                throw new DamagedPayloadException("the payload's checksum is wrong", null);
            }
            if (rawLength < 0 || rawLength > BatchLimits.MAX_BYTES) {
                throw new DamagedPayloadException("the payload is said to have " + rawLength + " bytes", null);
            }
            byte[] raw = Compressions.decompress(Compressions.of(compression), payload, rawLength);
            List<LogEntry> entries = Formats.codec(Formats.of(format)).decode(raw);
            return new Content(BatchHeader.decode(header), entries);
        }
    }
}
