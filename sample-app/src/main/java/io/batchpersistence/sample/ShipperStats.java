package io.batchpersistence.sample;

import java.util.concurrent.atomic.AtomicLong;

/** Counts what has been shipped since the start. Thread-safe. */
final class ShipperStats {

    final AtomicLong batches = new AtomicLong();
    final AtomicLong entries = new AtomicLong();
    final AtomicLong emptyLines = new AtomicLong();
    final AtomicLong refusals = new AtomicLong();
}
