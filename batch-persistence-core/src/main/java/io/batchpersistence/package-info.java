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
 * <h2>Packages</h2>
 *
 * This package holds the API and imports nothing else of the project. {@code engine} makes the decisions (retries,
 * lanes, TTL, overflow), {@code store.segment} and {@code store.file} keep the bytes, {@code codec} turns entries into
 * bytes. Everything below {@code internal} may change at any time.
 *
 * <h2>Threads</h2>
 *
 * Every public type is either immutable or says that it may be used by any number of threads.
 */
@NullMarked
package io.batchpersistence;

import org.jspecify.annotations.NullMarked;
