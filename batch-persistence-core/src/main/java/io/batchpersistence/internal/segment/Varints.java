package io.batchpersistence.internal.segment;

import java.nio.ByteBuffer;

/**
 * Reads numbers of variable size: seven bits a byte, the lowest first; the highest bit of a byte says that another one
 * follows, as in protobuf. What can't be read is 0, and remembered.
 */
final class Varints {

    /** The most bytes of a number of 64 bits, and of one of 31. */
    static final int MAX_64 = 10;

    static final int MAX_32 = 5;

    private final byte[] bytes;
    private int position;
    private boolean damaged;

    Varints(byte[] bytes, int position) {
        this.bytes = bytes;
        this.position = position;
    }

    static int size(long value) {
        return (Long.SIZE - Long.numberOfLeadingZeros(value | 1) + 6) / 7;
    }

    static void put(ByteBuffer out, long value) {
        long rest = value;
        while ((rest & ~0x7FL) != 0) {
            out.put((byte) (rest | 0x80));
            rest >>>= 7;
        }
        out.put((byte) rest);
    }

    /** The next number, all 64 bits of it. */
    long next64() {
        long value = 0;
        for (int shift = 0; shift < 7 * MAX_64; shift += 7) {
            if (position >= bytes.length) {
                break;
            }
            byte next = bytes[position++];
            value |= (next & 0x7FL) << shift;
            if (next >= 0) {
                return value;
            }
        }
        damaged = true;
        return 0;
    }

    /** The next number, if it is not larger than an {@code int}. */
    int next32() {
        long value = next64();
        if (value < 0 || value > Integer.MAX_VALUE) {
            damaged = true;
            return 0;
        }
        return (int) value;
    }

    int position() {
        return position;
    }

    boolean isDamaged() {
        return damaged;
    }
}
