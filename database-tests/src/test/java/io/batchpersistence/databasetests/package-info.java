/** Whole applications that keep their batches in their database, with what such applications have: Flyway, Liquibase, JPA. */
@NullMarked
package io.batchpersistence.databasetests;

import org.jspecify.annotations.NullMarked;
