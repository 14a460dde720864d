/**
 * The store in a database that an application shares with its replicas: many instances, one set of batches.
 *
 * <pre>
 * append    ─► JdbcBatchStore.append ─► GroupWriter (one transaction for all that wait: marks, inserts, counters) ─► caller
 * delivered ─►        (the same)
 * claim     ─► JdbcBatchStore.claim: a look at what is due, then select for update skip locked and update
 * dead instance ─► Instance.beat of another one ─► its batches are pending again
 *
 * the database is away: append ─► FallbackBatchStore ─► a segment store on the local disk ─► caller
 * it is back:           FallbackBatchStore.move ─► JdbcBatchStore.adopt ─► GroupWriter ─► withdrawn from the local disk
 * </pre>
 *
 * <h2>Invariants</h2>
 *
 * <ul>
 *   <li>A batch in flight has an owner and a fence. Only the instance with that number settles it.
 *   <li>Numbers of instances are never used twice. An instance whose lease has ended is gone for good once another one has
 *       said so: its row says so, and its counters, which each of its writing transactions changes, are no longer there. So one
 *       that was frozen can't write under its old number; it takes a new one.
 *   <li>Counters change in the transaction that changes the batches, and each transaction's changes are balanced: so is any sum
 *       of them.
 *   <li>A transaction locks batches first and counters last, by name.
 *   <li>Times are compared on the database's clock, in its statements. What comes from a caller's clock gets there as a distance
 *       from that clock's now.
 * </ul>
 *
 * <p>Threads: callers read, claim and select on their own; appends and marks are written by one thread, which makes groups of
 * them; another one gives signs of life and looks for instances that do not; a third one moves what is in a fallback. Tables and
 * promises are described in {@code docs/jdbc-store.md}.
 */
@NullMarked
package io.batchpersistence.store.jdbc;

import org.jspecify.annotations.NullMarked;
