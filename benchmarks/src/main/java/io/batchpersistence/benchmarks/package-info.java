/**
 * The stores of this project and their alternatives, measured side by side with the same work.
 *
 * <p>Read {@link io.batchpersistence.benchmarks.Benchmarks} (the command: plans, runs each measurement in its own JVM,
 * writes the report), then {@code Scenarios} (the work that is timed), then the {@code Candidate}s (the stores, their
 * configuration and their guarantees).
 */
@NullMarked
package io.batchpersistence.benchmarks;

import org.jspecify.annotations.NullMarked;
