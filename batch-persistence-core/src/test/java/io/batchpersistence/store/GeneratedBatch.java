package io.batchpersistence.store;

import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.NewBatch;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Content derived from an id, so that a test that knows the id can check whether a batch is complete. */
public final class GeneratedBatch {

    private static final String[] LEVELS = {"INFO", "WARN", "ERROR", null};

    private GeneratedBatch() {}

    public static NewBatch of(String id, Instant createdAt, Instant leaseUntil) {
        return new NewBatch(id, collectorType(id), entries(id), context(id), createdAt, leaseUntil);
    }

    public static String collectorType(String id) {
        return (id.hashCode() & 1) == 0 ? "loki" : "elasticsearch";
    }

    public static Map<String, String> context(String id) {
        return Map.of("of", id);
    }

    /** The id that the content was generated for, from the context. */
    public static String key(PersistedBatch batch) {
        return batch.context().getOrDefault("of", batch.id());
    }

    public static List<LogEntry> entries(String id) {
        return entries(id.hashCode());
    }

    /** One to five entries that compress badly, sometimes with one of several kilobytes. */
    public static List<LogEntry> entries(long seed) {
        Random random = new Random(seed);
        List<LogEntry> entries = new ArrayList<>();
        int count = 1 + random.nextInt(5);
        for (int i = 0; i < count; i++) {
            int length = random.nextInt(30) == 0 ? 4_000 : random.nextInt(300);
            StringBuilder message = new StringBuilder(length);
            for (int c = 0; c < length; c++) {
                message.append((char) (' ' + random.nextInt(random.nextInt(20) == 0 ? 4_000 : 90)));
            }
            LogEntry.Builder entry = LogEntry.builder(
                            Instant.ofEpochSecond(
                                    1_700_000_000L + random.nextInt(1_000_000), random.nextInt(1_000_000_000)),
                            message.toString())
                    .level(LEVELS[random.nextInt(LEVELS.length)])
                    .label("app", "app-" + random.nextInt(3));
            if (random.nextBoolean()) {
                entry.field("count", random.nextLong()).source("file", "/var/log/app.log:" + i);
            }
            entries.add(entry.build());
        }
        return entries;
    }
}
