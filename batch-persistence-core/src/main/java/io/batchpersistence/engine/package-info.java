/**
 * Makes the decisions: retries, lanes, timeouts, TTL, overflow. Depends on {@link io.batchpersistence.spi.BatchStore}, but
 * on no implementation of it.
 */
@NullMarked
package io.batchpersistence.engine;

import org.jspecify.annotations.NullMarked;
