package io.batchpersistence.spring.operator;

/** Who sees what is in a batch. */
public enum ShowEntries {
    /** Nobody. */
    NEVER,
    /** Who is logged in, and has one of the roles if there are some. */
    WHEN_AUTHORIZED,
    /** Everybody who can reach it. */
    ALWAYS
}
