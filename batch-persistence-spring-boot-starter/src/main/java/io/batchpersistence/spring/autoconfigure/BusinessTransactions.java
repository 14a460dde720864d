package io.batchpersistence.spring.autoconfigure;

/**
 * The application's transactions, as far as batches become part of them. Has no dependency on classes that an
 * application may lack.
 */
interface BusinessTransactions {

    /** Batches never become part of a transaction. */
    BusinessTransactions NONE = new BusinessTransactions() {
        @Override
        public boolean isJoined() {
            return false;
        }

        @Override
        public void afterCommit(String what, Runnable task) {
            throw new IllegalStateException("there is no transaction");
        }
    };

    /**
     * Returns whether the calling thread is in a transaction that a batch persisted now becomes part of.
     *
     * @return whether a batch persisted now joins a transaction
     */
    boolean isJoined();

    /**
     * Runs a task after the calling thread's transaction has committed, and not if it is rolled back. The task runs
     * once for all transactions that commit before it starts, however many there are.
     *
     * @param what the key of the task: tasks with the same key are coalesced
     * @param task runs on another thread: this thread still holds its connection, and the store needs one, too
     */
    void afterCommit(String what, Runnable task);
}
