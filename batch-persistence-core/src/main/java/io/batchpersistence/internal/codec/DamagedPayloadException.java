package io.batchpersistence.internal.codec;

import io.batchpersistence.internal.log.LogSanitizer;
import java.io.Serial;
import org.jspecify.annotations.Nullable;

/** Invalid or damaged bytes. The message says what is wrong and where, and quotes none of them. */
public final class DamagedPayloadException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * Creates an exception.
     *
     * @param message what is wrong
     * @param cause the underlying cause, or {@code null}
     */
    public DamagedPayloadException(String message, @Nullable Throwable cause) {
        super(LogSanitizer.of(message), cause);
    }
}
