package io.batchpersistence;

import java.io.Serial;

/** The store is full, by one of its bounds. */
public final class BatchRejectedException extends BatchPersistenceException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * With the bound that was met.
     *
     * @param message which bound, its value and how to raise it
     */
    public BatchRejectedException(String message) {
        super(message, null);
    }
}
