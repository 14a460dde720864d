package io.batchpersistence.internal.jsonfile;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import java.io.ByteArrayInputStream;
import java.time.Instant;
import org.jspecify.annotations.Nullable;

/**
 * Any document is a batch or is reported as damaged, with and without its entries. A batch that was read can be written
 * and read again.
 */
public final class JsonFileFuzz {

    private static final Instant NOW = Instant.parse("2026-01-02T03:04:05Z");

    @FuzzTest
    void fuzz(byte[] document) {
        check(document);
    }

    public static void check(byte[] document) {
        JsonBatchFile read = whole(document);
        JsonBatchFile summary = withoutEntries(document);
        if (read == null) {
            // Without its entries it may seem valid.
            return;
        }
        if (summary == null
                || summary.entryCount() != read.entryCount()
                || !summary.id().equals(read.id())) {
            throw new AssertionError("looks otherwise without its entries");
        }
        String name = JsonBatchFile.name(read.id());
        if (!name.matches("batch_[A-Za-z0-9_-]{0,100}(~[0-9a-f]{16})?\\.json")) {
            throw new AssertionError("a strange name for a file: " + name);
        }
        JsonBatchFile again = JsonBatchFile.parse(read.toBytes(), true, NOW);
        if (!again.entries().equals(read.entries())
                || !again.id().equals(read.id())
                || !again.context().equals(read.context())
                || again.sequence() != read.sequence()) {
            throw new AssertionError("not the same when written and read again");
        }
    }

    private static @Nullable JsonBatchFile whole(byte[] document) {
        try {
            return JsonBatchFile.parse(document, true, NOW);
        } catch (DamagedPayloadException e) {
            return null;
        }
    }

    private static @Nullable JsonBatchFile withoutEntries(byte[] document) {
        try {
            return JsonBatchFile.parse(new ByteArrayInputStream(document), NOW);
        } catch (DamagedPayloadException e) {
            return null;
        }
    }
}
