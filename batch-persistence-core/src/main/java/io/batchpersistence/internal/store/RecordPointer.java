package io.batchpersistence.internal.store;

/**
 * Where a batch's bytes are. Immutable.
 *
 * @param sequence the batch's number: assigned when it is appended, never reused in this store
 * @param file which file, in the payload log's own numbering
 * @param offset where its record begins in that file, in bytes
 * @param length of its record, in bytes
 */
public record RecordPointer(long sequence, int file, int offset, int length) {}
