package io.batchpersistence;

import java.io.Serial;
import org.jspecify.annotations.Nullable;

/**
 * The batch, or the operation, was not taken; the caller still owns the batch. Subclasses say why. Thrown itself when the
 * store failed, for instance because the disk did.
 */
public class BatchPersistenceException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * With a cause.
     *
     * @param message what happened and what to do
     * @param cause what it came from, or {@code null}
     */
    public BatchPersistenceException(String message, @Nullable Throwable cause) {
        super(SingleLine.of(message), cause);
    }
}
