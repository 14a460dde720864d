package io.batchpersistence.spring.autoconfigure;

/** An exception that fails the start-up and knows how a person can fix it. Its message says what is wrong. */
interface StartUpFailure {

    /**
     * Returns what to change.
     *
     * @return one or more sentences
     */
    String action();
}
