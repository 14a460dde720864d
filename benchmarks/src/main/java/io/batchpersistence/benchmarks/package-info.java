/**
 * The stores of this project and what one could use instead, taken through the same work, side by side.
 *
 * <p>Read {@link io.batchpersistence.benchmarks.Benchmarks} (the command: plans, runs each measurement in a JVM of its own,
 * writes the report), then {@code Scenarios} (what is done and timed), then the {@code Candidate}s (who does it, in which
 * configuration, with which guarantee).
 */
@NullMarked
package io.batchpersistence.benchmarks;

import org.jspecify.annotations.NullMarked;
