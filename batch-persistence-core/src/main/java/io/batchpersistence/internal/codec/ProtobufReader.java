package io.batchpersistence.internal.codec;

import static io.batchpersistence.internal.codec.ProtobufBuffer.FIXED32;
import static io.batchpersistence.internal.codec.ProtobufBuffer.FIXED64;
import static io.batchpersistence.internal.codec.ProtobufBuffer.GROUP_END;
import static io.batchpersistence.internal.codec.ProtobufBuffer.GROUP_START;
import static io.batchpersistence.internal.codec.ProtobufBuffer.LENGTH_DELIMITED;
import static io.batchpersistence.internal.codec.ProtobufBuffer.VARINT;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Reads protobuf's wire format. Does not trust its input: every length is checked against the bytes that exist, and
 * whatever is not valid ends in a {@link DamagedPayloadException}. Not thread-safe.
 */
final class ProtobufReader {

    private final byte[] bytes;
    private int at;
    /** Where the current message ends. */
    private int limit;

    ProtobufReader(byte[] bytes) {
        this.bytes = bytes;
        this.limit = bytes.length;
    }

    /** The next field's number and wire type; 0 at the end of the message. */
    int tag() {
        if (at == limit) {
            return 0;
        }
        int tag = (int) varint();
        if (tag >>> 3 == 0) {
            throw damaged("field number 0");
        }
        return tag;
    }

    /** Begins a nested message, which ends when the result is passed to {@link #end}. */
    int begin(int tag) {
        expect(tag, LENGTH_DELIMITED);
        int length = length();
        int outer = limit;
        limit = at + length;
        return outer;
    }

    void end(int outer) {
        limit = outer;
    }

    /** Bytes left in the message. */
    int remaining() {
        return limit - at;
    }

    long varint(int tag) {
        expect(tag, VARINT);
        return varint();
    }

    long zigZag(int tag) {
        expect(tag, VARINT);
        return zigZag();
    }

    long varint() {
        int from = at;
        if (from < limit) {
            byte only = bytes[from];
            if (only >= 0) {
                at = from + 1;
                return only;
            }
        }
        long value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            if (from == limit) {
                throw damaged("it ends within a number");
            }
            byte next = bytes[from++];
            value |= (long) (next & 0x7F) << shift;
            if (next >= 0) {
                at = from;
                return value;
            }
        }
        throw damaged("a number of more than ten bytes");
    }

    long zigZag() {
        long value = varint();
        return (value >>> 1) ^ -(value & 1);
    }

    /**
     * Reads numbers up to the end of the message, of which each takes at least one byte.
     *
     * @param into has room for as many as there are bytes
     * @param index where to put the first
     * @return the index after the last
     */
    int unsignedInts(int[] into, int index) {
        int to = index;
        int from = at;
        while (from < limit) {
            byte only = bytes[from];
            if (only >= 0) {
                from++;
                into[to++] = only;
            } else {
                at = from;
                into[to++] = Math.toIntExact(varint());
                from = at;
            }
        }
        at = from;
        return to;
    }

    /** As {@link #unsignedInts}, with signed numbers. */
    int signedLongs(long[] into, int index) {
        int to = index;
        int from = at;
        while (from < limit) {
            byte only = bytes[from];
            if (only >= 0) {
                from++;
                into[to++] = (only >>> 1) ^ -(long) (only & 1);
            } else {
                at = from;
                into[to++] = zigZag();
                from = at;
            }
        }
        at = from;
        return to;
    }

    double fixed64(int tag) {
        expect(tag, FIXED64);
        int from = take(8);
        long value = 0;
        for (int i = 7; i >= 0; i--) {
            value = value << 8 | (bytes[from + i] & 0xFF);
        }
        return Double.longBitsToDouble(value);
    }

    String string(int tag) {
        expect(tag, LENGTH_DELIMITED);
        int length = length();
        int from = take(length);
        return new String(bytes, from, length, StandardCharsets.UTF_8);
    }

    byte[] bytes(int tag) {
        expect(tag, LENGTH_DELIMITED);
        int length = length();
        int from = take(length);
        return Arrays.copyOfRange(bytes, from, from + length);
    }

    /** Skips a field. Groups are skipped in a loop: however deep they are nested, the stack does not overflow. */
    void skip(int firstTag) {
        int groups = 0;
        int tag = firstTag;
        do {
            switch (tag & 7) {
                case VARINT -> varint();
                case FIXED64 -> take(8);
                case LENGTH_DELIMITED -> take(length());
                case GROUP_START -> groups++;
                case GROUP_END -> groups--;
                case FIXED32 -> take(4);
                default -> throw damaged("unknown wire type " + (tag & 7));
            }
        } while (groups > 0 && (tag = tag()) != 0);
        if (groups != 0) {
            throw damaged("group without " + (groups > 0 ? "end" : "start"));
        }
    }

    private int length() {
        long length = varint();
        if (length < 0 || length > limit - at) {
            throw damaged("it ends before " + length + " bytes that are announced");
        }
        return (int) length;
    }

    private int take(int count) {
        int from = at;
        if (count > limit - from) {
            throw damaged("it ends within a field");
        }
        at = from + count;
        return from;
    }

    private static void expect(int tag, int wireType) {
        if ((tag & 7) != wireType) {
            throw damaged("field " + (tag >>> 3) + " has wire type " + (tag & 7) + " instead of " + wireType);
        }
    }

    static DamagedPayloadException damaged(String what) {
        return new DamagedPayloadException("not valid protobuf: " + what, null);
    }
}
