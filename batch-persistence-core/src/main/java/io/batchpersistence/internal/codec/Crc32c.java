package io.batchpersistence.internal.codec;

import java.util.zip.CRC32C;

/** The checksum of everything that is stored: CRC32C, the Castagnoli polynomial of RFC 3720. */
public final class Crc32c {

    private Crc32c() {}

    /**
     * Computes the checksum of a part of an array.
     *
     * @param bytes the array
     * @param from index of the first byte
     * @param length how many bytes
     * @return all 32 bits of it
     */
    public static int of(byte[] bytes, int from, int length) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, from, length);
        return (int) crc.getValue();
    }
}
