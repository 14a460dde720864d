package io.batchpersistence.spi;

import io.batchpersistence.LogEntry;
import io.batchpersistence.internal.log.LogEntryNormalizer;
import io.batchpersistence.internal.log.LogSanitizer;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * A batch to be stored. Immutable; validated here, once, for every store.
 *
 * @param id any non-blank text of at most {@value #MAX_NAME_LENGTH} characters; never used as a path
 * @param collectorType the destination's name, non-blank, at most {@value #MAX_NAME_LENGTH} characters
 * @param entries at least one
 * @param context free text the application wants back with the batch, for instance a tenant; at most {@value
 *     #MAX_CONTEXT_LENGTH} characters in all
 * @param createdAt the current time
 * @param leaseUntil until when the caller has to mark it before it times out
 */
public record NewBatch(
        String id,
        String collectorType,
        List<LogEntry> entries,
        Map<String, String> context,
        Instant createdAt,
        Instant leaseUntil) {

    /** Maximum number of characters of an id or a collector type. */
    public static final int MAX_NAME_LENGTH = LogEntryNormalizer.MAX_NAME_LENGTH;

    /**
     * Maximum number of characters of all names and values of a context together: the context is read whenever the
     * batch is listed.
     */
    public static final int MAX_CONTEXT_LENGTH = 65_536;

    /**
     * Checks the values and copies the collections.
     *
     * @throws IllegalArgumentException if the id or the collector type is blank or too long, or the context is too
     *     long, or there are no entries, or one of them is {@code null}
     */
    public NewBatch {
        id = LogEntryNormalizer.name(id, "batch id");
        collectorType = LogEntryNormalizer.name(collectorType, "collector type");
        entries = checked(entries);
        context = checkedContext(Objects.requireNonNull(context, "context must not be null"));
        Objects.requireNonNull(createdAt, "createdAt must not be null");
        Objects.requireNonNull(leaseUntil, "leaseUntil must not be null");
    }

    /**
     * Checks the name of a collector type without a batch, for instance one that is to be paused.
     *
     * @param name the destination's name
     * @return the name
     * @throws IllegalArgumentException if no batch could have it: it is {@code null}, blank, too long, or contains an
     *     unpaired surrogate
     */
    public static String checkedCollectorType(@Nullable String name) {
        return LogEntryNormalizer.name(name, "collector type");
    }

    /**
     * Whether a batch could have this id.
     *
     * @param id any text
     * @return whether it would be accepted
     */
    public static boolean isPossibleId(String id) {
        return LogEntryNormalizer.isName(id);
    }

    private static Map<String, String> checkedContext(Map<String, String> context) {
        Map<String, String> texts = LogEntryNormalizer.texts(context, "context entry");
        long length = 0;
        for (Map.Entry<String, String> entry : texts.entrySet()) {
            length += (long) entry.getKey().length() + entry.getValue().length();
        }
        if (length > MAX_CONTEXT_LENGTH) {
            throw new IllegalArgumentException("the context has " + length + " characters, but can have at most "
                    + MAX_CONTEXT_LENGTH + "; what is long belongs into the entries");
        }
        return texts;
    }

    private static List<LogEntry> checked(@Nullable List<? extends @Nullable LogEntry> entries) {
        if (entries == null || entries.isEmpty()) {
            throw new IllegalArgumentException(
                    "entries must not be " + (entries == null ? "null" : "empty") + ": a batch has at least one entry");
        }
        for (int i = 0; i < entries.size(); i++) {
            if (entries.get(i) == null) {
                throw new IllegalArgumentException("entry " + i + " of " + entries.size() + " is null");
            }
        }
        return List.copyOf(entries);
    }

    /** Describes the batch without its content. */
    @Override
    public String toString() {
        return "NewBatch['" + LogSanitizer.of(id) + "' for " + LogSanitizer.of(collectorType) + ", " + entries.size()
                + " entries]";
    }
}
