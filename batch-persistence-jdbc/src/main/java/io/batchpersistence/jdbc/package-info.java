/**
 * The store in a database that an application shares with its replicas: many instances, one set of batches.
 *
 * <pre>
 * append    ─► JdbcBatchStore.append ─► GroupWriter (one transaction: marks, inserts, counters) ─► caller
 * delivered ─►        (the same)
 * claim     ─► JdbcBatchStore.claim: a query for what is due, then select for update skip locked, and update
 * dead instance ─► InstanceMembership.expireOthers of another instance ─► its batches are pending again
 *
 * the database is away: append ─► FallbackBatchStore ─► a segment store on the local disk ─► caller
 * it is back:           FallbackMover.move ─► JdbcBatchStore.adopt ─► GroupWriter ─► removed from the local disk
 * </pre>
 *
 * <h2>Invariants</h2>
 *
 * <ul>
 *   <li>A batch in flight has an owner and a fence. Only the owner, the instance with that number, settles it.
 *   <li>Instance numbers are never reused. An instance whose lease has expired is gone for good once another instance
 *       has marked it so: its row says so, and its counters, which each of its writing transactions changes, have been
 *       removed. So an instance that was frozen can't write under its old number; it takes a new one.
 *   <li>Counters change in the transaction that changes the batches, and the changes of each transaction are balanced:
 *       so is any sum of them.
 *   <li>A transaction locks batches first and counters last, by name.
 *   <li>Times are compared on the database's clock, in its statements. A time on a caller's clock is passed as a
 *       distance from that clock's now.
 * </ul>
 *
 * <p>Threads: callers read, claim and select on their own threads; one thread writes appends and marks, in groups; one
 * renews the lease; one does the upkeep, which includes expiring instances whose lease has ended; with a fallback, one
 * more moves its batches. Tables and guarantees are described in {@code docs/jdbc-store.md}.
 */
@NullMarked
package io.batchpersistence.jdbc;

import org.jspecify.annotations.NullMarked;
