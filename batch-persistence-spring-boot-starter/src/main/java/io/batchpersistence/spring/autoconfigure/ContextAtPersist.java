package io.batchpersistence.spring.autoconfigure;

import java.util.Map;
import java.util.function.UnaryOperator;

/** Adds to the context of a batch when it is persisted, on the thread that persists it. */
@FunctionalInterface
interface ContextAtPersist extends UnaryOperator<Map<String, String>> {

    /** Adds nothing. */
    ContextAtPersist NOTHING = given -> given;
}
