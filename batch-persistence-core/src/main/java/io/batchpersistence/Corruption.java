package io.batchpersistence;

import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/**
 * Damage found on disk. Immutable.
 *
 * @param file the damaged file
 * @param offset where in it, in bytes
 * @param length how many bytes
 * @param reason what is wrong with them
 * @param batchId the id of the batch lost, if it could still be read
 * @param collectorType its collector type, if known
 * @param batches how many accepted batches were lost in it; 0 if nothing accepted was
 * @param quarantinedTo where the damaged bytes were copied; {@code null} if there was nothing to copy or no room
 */
public record Corruption(
        Path file,
        long offset,
        long length,
        String reason,
        @Nullable String batchId,
        @Nullable String collectorType,
        long batches,
        @Nullable Path quarantinedTo) {

    /** Makes one line of the reason. */
    public Corruption {
        reason = SingleLine.of(reason);
    }

    @Override
    public String toString() {
        return "Corruption[" + length + " bytes at " + offset + " of " + SingleLine.of(file) + ": " + reason + ", "
                + batches + " batches" + (collectorType == null ? "" : " for " + SingleLine.of(collectorType))
                + (batchId == null ? "" : ", id '" + SingleLine.of(batchId) + "'") + "]";
    }
}
