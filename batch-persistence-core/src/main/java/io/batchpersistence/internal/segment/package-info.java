/**
 * The segment store, the default: payloads in append-only segments, their states in a state journal.
 *
 * <pre>
 * directory/
 *   lock                              locked while the store is open; its text names the holder
 *   0000000007.segment                sealed: records, then their index
 *   0000000008.segment                being written: records, then zeros written ahead
 *   state-0000000000000003.snapshot   the previous generation, kept as a fallback
 *   state-0000000000000003.journal
 *   state-0000000000000004.snapshot   what differed from how it was persisted when the generation began
 *   state-0000000000000004.journal    one frame for each change since then
 *   quarantine/                       copies of damaged bytes
 *
 * segment  ┌──────────────────┬──────────────────────┬────────┬────────┬─ … ─┬────────────────────────┐
 *          │ header, 16 bytes │ dictionary, if used, │ record │ record │     │ index, once it is full │
 *          │                  │ twice                │        │        │     │                        │
 *          └──────────────────┴──────────────────────┴────────┴────────┴─ … ─┴────────────────────────┘
 * </pre>
 *
 * <p>Everything needed to read it with another program is in {@code docs/internals/storage-format.md}. In the code,
 * {@code SegmentHead} defines header and dictionary, {@code RecordFormat} a record, {@code SegmentIndex} the index,
 * {@code StateJournal} and {@code JournalFrames} the journal, and {@code batch_payload.proto} the payload.
 */
@NullMarked
package io.batchpersistence.internal.segment;

import org.jspecify.annotations.NullMarked;
