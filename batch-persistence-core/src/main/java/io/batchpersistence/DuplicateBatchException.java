package io.batchpersistence;

import java.io.Serial;

/** A batch with that id is already held. The held batch is unchanged. */
public final class DuplicateBatchException extends BatchPersistenceException {

    @Serial
    private static final long serialVersionUID = 1L;

    /**
     * Creates an exception for one id.
     *
     * @param batchId the id
     */
    public DuplicateBatchException(String batchId) {
        super(
                "a batch with the id '" + batchId + "' is already stored; choose another id, or mark that batch first",
                null);
    }
}
