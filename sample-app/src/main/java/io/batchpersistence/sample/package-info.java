/**
 * A log shipper: follows files, accepts lines over HTTP, persists them in batches and delivers them to Loki or
 * Elasticsearch.
 *
 * <h2>The way of a line</h2>
 *
 * <pre>
 * file ── FileTailer, TailedFile, LineReader ──┐
 *                                              ├─► Outbox.ship: durable when it returns ─► first send ─► LokiSender
 * POST /logs ── LogController, EntryParser ────┘        (the store's recovery does the rest)          or ElasticsearchSender
 * </pre>
 *
 * <h2>What holds</h2>
 *
 * <ul>
 *   <li>A file's position on disk advances only after the batch with the lines before it is durable. After a crash in
 *       between, the lines are read again; the batch id is derived from the stream's random id and the offset where the
 *       batch starts, so that a batch that is still held is recognized and skipped, see {@link
 *       io.batchpersistence.sample.TailedFile}.
 *   <li>{@code 202} means the batch is durable.
 *   <li>If the store refuses a batch, the shipper waits: the tailer keeps its position, the HTTP client gets {@code
 *       503}. Memory holds at most one batch per file.
 * </ul>
 *
 * <h2>When batches can't be delivered</h2>
 *
 * The two senders report what a response means (retry, retry after a given delay, never); the library does everything
 * else, as configured in {@code application.yml}. {@link io.batchpersistence.sample.Alarms} listens to the library's
 * events, {@link io.batchpersistence.sample.OperatorController} runs an operator's commands. {@code
 * sample-app/README.md} shows all of it.
 *
 * <h2>Threads</h2>
 *
 * One thread reads all files and persists their batches; it is never interrupted, because that would close file
 * channels. All sends run on the threads of the library.
 */
@NullMarked
package io.batchpersistence.sample;

import org.jspecify.annotations.NullMarked;
