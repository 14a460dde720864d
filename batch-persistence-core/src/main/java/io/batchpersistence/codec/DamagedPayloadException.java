package io.batchpersistence.codec;

import io.batchpersistence.SingleLine;
import java.io.Serial;
import org.jspecify.annotations.Nullable;

/** Bytes that are not what they should be. The message says what and where, and quotes nothing of them. */
public final class DamagedPayloadException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * With what is wrong.
     *
     * @param message what is wrong
     * @param cause what it came from, or {@code null}
     */
    public DamagedPayloadException(String message, @Nullable Throwable cause) {
        super(SingleLine.of(message), cause);
    }
}
