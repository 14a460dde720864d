package io.batchpersistence.spring.autoconfigure;

/** The application's transactions, as far as batches become part of them. Without any class that an application may not have. */
interface BusinessTransactions {

    /** Batches are never part of one. */
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
     * Whether the calling thread is in a transaction that a batch which it persists now becomes part of.
     *
     * @return whether
     */
    boolean isJoined();

    /**
     * Has something done when the calling thread's transaction has been committed; not if it is rolled back. Done once for all that are
     * committed before it begins, however many they are.
     *
     * @param what tells it from others
     * @param task done on another thread: this one still holds its connection, and the store needs one, too
     */
    void afterCommit(String what, Runnable task);
}
