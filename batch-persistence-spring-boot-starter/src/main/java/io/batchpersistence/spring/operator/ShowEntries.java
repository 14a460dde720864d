package io.batchpersistence.spring.operator;

/** Who may see the content of a batch. */
public enum ShowEntries {
    /** No user. */
    NEVER,
    /** Users who are logged in and have one of the roles, if any are configured. */
    WHEN_AUTHORIZED,
    /** All users with access to the endpoint or page. */
    ALWAYS
}
