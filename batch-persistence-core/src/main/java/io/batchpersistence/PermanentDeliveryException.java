package io.batchpersistence;

import java.io.Serial;
import org.jspecify.annotations.Nullable;

/** The collector will never take this batch, for instance because it is malformed: a dead letter at once. */
public class PermanentDeliveryException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * Creates an exception with a reason.
     *
     * @param reason why, as the operator will read it
     */
    public PermanentDeliveryException(String reason) {
        this(reason, null);
    }

    /**
     * Creates an exception with a reason and a cause.
     *
     * @param reason why, as the operator will read it
     * @param cause the underlying cause, or {@code null}
     */
    public PermanentDeliveryException(String reason, @Nullable Throwable cause) {
        super(reason, cause);
    }
}
