/** The decisions: retries, lanes, timeouts, TTL, overflow. Knows a {@link io.batchpersistence.BatchStore}, but none in particular. */
@NullMarked
package io.batchpersistence.engine;

import org.jspecify.annotations.NullMarked;
