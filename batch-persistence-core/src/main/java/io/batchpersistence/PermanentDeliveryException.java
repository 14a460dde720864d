package io.batchpersistence;

import java.io.Serial;
import org.jspecify.annotations.Nullable;

/** The collector will never take this batch, for instance because it is malformed: a dead letter at once. */
public class PermanentDeliveryException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * With a reason.
     *
     * @param reason why, as the operator will read it
     */
    public PermanentDeliveryException(String reason) {
        this(reason, null);
    }

    /**
     * With a reason and a cause.
     *
     * @param reason why, as the operator will read it
     * @param cause what it came from, or {@code null}
     */
    public PermanentDeliveryException(String reason, @Nullable Throwable cause) {
        super(reason, cause);
    }
}
