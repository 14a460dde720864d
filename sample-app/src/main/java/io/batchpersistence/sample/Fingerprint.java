package io.batchpersistence.sample;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.util.zip.CRC32C;

/**
 * Detects whether a file is still the one that was read up to some offset: checksums of its first bytes and of the last
 * bytes before that offset. They differ for an inode that was reused by another file, and for a file that was truncated
 * and has grown again.
 *
 * @param offset up to which the file was read
 * @param head checksum of the first bytes
 * @param tail checksum of the bytes before the offset
 */
record Fingerprint(long offset, long head, long tail) {

    private static final int LENGTH = 256;

    /** Returns the fingerprint up to an offset; that of a file shorter than the offset matches nothing. */
    static Fingerprint of(FileChannel file, long offset) throws IOException {
        int length = (int) Math.min(LENGTH, offset);
        return new Fingerprint(offset, checksum(file, 0, length), checksum(file, offset - length, length));
    }

    boolean matches(FileChannel file) throws IOException {
        return file.size() >= offset && equals(of(file, offset));
    }

    private static long checksum(FileChannel file, long from, int length) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(length);
        while (bytes.hasRemaining() && file.read(bytes, from + bytes.position()) > 0) {
            // Until the buffer is full, or the file ends.
        }
        if (bytes.hasRemaining()) {
            return -1;
        }
        CRC32C crc = new CRC32C();
        crc.update(bytes.flip());
        return crc.getValue();
    }
}
