package io.batchpersistence.spring.autoconfigure;

/** An exception that ends the start-up and knows what a person can do about it. Its message says what is wrong. */
interface StartUpFailure {

    /**
     * What to change.
     *
     * @return sentences
     */
    String action();
}
