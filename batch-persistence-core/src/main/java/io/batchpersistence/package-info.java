/**
 * A durable buffer for batches of log entries: every batch is on disk before it is first sent, and stays there until it
 * is delivered or given up, which is counted and announced.
 *
 * <h2>Promise</h2>
 *
 * <ol>
 *   <li>When {@link io.batchpersistence.BatchPersistence#persistBatch persistBatch} returns, the batch is durable. When
 *       it throws, the caller still owns the batch. A batch is stored completely or not at all.
 *   <li>At least once: every accepted batch is delivered, or is in a defined state with a reason. Per collector type,
 *       at any quiet moment and across restarts: {@code accepted = delivered + pending + in flight + dead + expired +
 *       evicted + discarded + corrupt}.
 *   <li>A store always opens. Damaged bytes are set aside, everything after them is read, the loss is reported.
 *   <li>Disk and memory are bounded; payloads stay on disk until they are handed out.
 * </ol>
 *
 * <h2>Life cycle of a batch</h2>
 *
 * <pre>
 * persistBatch ──► IN_FLIGHT ──markBatchSuccess──► delivered (gone)
 *                   │   ▲
 *    markBatchFailed│   │claimed by recovery (nextAttemptAt reached, lane open)
 *    batch timeout  ▼   │
 *    restart      PENDING ──retries used up / rejected──► DEAD ──replay──► PENDING
 *                   └── older than the batch TTL ──► expired     └── older than the dead letter TTL ──► expired
 * </pre>
 *
 * <h2>Terms</h2>
 *
 * <ul>
 *   <li><em>batch</em>: id, collector type, entries, context map; <em>entry</em>: one {@link
 *       io.batchpersistence.LogEntry}.
 *   <li><em>collector type</em>: the destination's name ({@code loki}, {@code elasticsearch}, …), the basis of lanes,
 *       limits and selection.
 *   <li><em>in flight</em>: being sent now; ends with a mark, or after the batch timeout, which counts as a failed
 *       attempt.
 *   <li><em>pending</em>: waits for its next attempt.
 *   <li><em>dead letter</em>: given up (retries used up, or permanently rejected): kept, visible, replayable.
 *   <li><em>recovery</em> is about batches, <em>repair</em> is about files.
 * </ul>
 *
 * <h2>Glossary</h2>
 *
 * Our words, and the field's:
 *
 * <ul>
 *   <li><em>lane</em>: the bulkhead and circuit breaker of one collector type: its concurrency limit, its rate limit (a
 *       token bucket) and its state (closed, open, half-open).
 *   <li><em>probe</em>: the trial request of a half-open circuit breaker: one batch that is sent to a collector that is
 *       marked down.
 *   <li><em>ramp</em>: slow start: the rate doubles after an outage until it reaches its limit.
 *   <li><em>lease</em>: the time until which a batch in flight belongs to its sender (a visibility timeout); also the
 *       time until which an instance counts as alive without a heartbeat.
 *   <li><em>claim</em>: to take pending batches for sending; they are in flight then.
 *   <li><em>fence</em>: a fencing token: a number that grows with each claim, so that a mark by a sender that has lost
 *       its lease is ignored.
 *   <li><em>settle</em>: to end a batch's flight: delivered, failed or released (acknowledge, negative acknowledge).
 *   <li><em>quarantine</em>: the directory to which damaged bytes are copied before they are skipped.
 *   <li><em>segment</em>: an append-only data file of the segment store (a log segment).
 *   <li><em>state journal</em>: the write-ahead log of marks. A <em>generation</em> is one snapshot of the state and the
 *       journal after it (checkpoint and redo log).
 *   <li><em>commit leader</em>: the thread that writes and forces for all waiting callers (leader and followers, group
 *       commit).
 *   <li><em>force</em>: fsync.
 *   <li><em>dead letter</em>: a batch in the dead letter queue.
 * </ul>
 *
 * <h2>Packages</h2>
 *
 * This package holds the API. {@code spi} is what a store implements, {@code engine} makes the decisions (retries,
 * lanes, TTL, overflow), {@code store} opens the stores on disk. Everything below {@code internal} may change at any
 * time.
 *
 * <h2>Threads</h2>
 *
 * Every public type is either immutable or says that it may be used by any number of threads.
 */
@NullMarked
package io.batchpersistence;

import org.jspecify.annotations.NullMarked;
