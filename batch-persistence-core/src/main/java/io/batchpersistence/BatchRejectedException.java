package io.batchpersistence;

import java.io.Serial;

/** The store is full: one of its limits is reached. */
public final class BatchRejectedException extends BatchPersistenceException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * Creates an exception for the limit that was reached.
     *
     * @param message which limit, its value and how to raise it
     */
    public BatchRejectedException(String message) {
        super(message, null);
    }
}
