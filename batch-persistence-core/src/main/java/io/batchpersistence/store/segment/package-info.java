/**
 * The segment store, the default: payloads in append-only segments, what became of them in a state journal.
 *
 * <pre>
 * directory/
 *   lock                              held while the store is open; its text says by whom
 *   0000000007.segment                sealed: records, then an index of them
 *   0000000008.segment                being written: records, then zeros kept ready
 *   state-0000000000000003.journal    the generation before, kept as a fallback
 *   state-0000000000000004.journal    a snapshot of what is not as it was persisted, then a frame a change
 *   quarantine/                       copies of damaged bytes
 *
 * segment  ┌──────────────────┬────────┬────────┬─ … ─┬────────────────────────┐
 *          │ header, 16 bytes │ record │ record │     │ index, once it is full │
 *          └──────────────────┴────────┴────────┴─ … ─┴────────────────────────┘
 *          header: 8 bytes "BPSEGMT\1", u32 segment number, u32 CRC32C of the twelve bytes before; big-endian.
 *          Informative: records are found and checked without it.
 * </pre>
 *
 * <p>Everything needed to read it with another program is in {@code docs/storage-format.md}; in the code, a record is at home
 * in {@code RecordFormat}, the index in {@code SegmentIndex}, the journal in {@code StateJournal} and {@code JournalFrames},
 * and the payload in {@code batch_payload.proto}.
 */
@NullMarked
package io.batchpersistence.store.segment;

import org.jspecify.annotations.NullMarked;
