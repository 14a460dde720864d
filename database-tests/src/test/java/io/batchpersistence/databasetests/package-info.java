/**
 * Whole applications that keep their batches in their database, with typical components of such applications: Flyway,
 * Liquibase, JPA.
 */
@NullMarked
package io.batchpersistence.databasetests;

import org.jspecify.annotations.NullMarked;
