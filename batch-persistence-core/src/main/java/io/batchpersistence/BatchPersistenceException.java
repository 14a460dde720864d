package io.batchpersistence;

import io.batchpersistence.internal.log.LogSanitizer;
import java.io.Serial;
import org.jspecify.annotations.Nullable;

/**
 * The batch or operation was not accepted; the caller still owns the batch. Subclasses say why. This class itself is
 * thrown when the store failed, for instance because of a disk error.
 */
public class BatchPersistenceException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * Creates an exception with a cause.
     *
     * @param message what happened and what to do
     * @param cause the underlying cause, or {@code null}
     */
    public BatchPersistenceException(String message, @Nullable Throwable cause) {
        super(LogSanitizer.of(message), cause);
    }
}
