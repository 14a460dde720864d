package io.batchpersistence.internal.codec;

import java.security.SecureRandom;
import java.util.Arrays;

/**
 * Numbers distinct encoded messages in order of appearance, from 1. Compares bytes rather than maps, because maps are
 * equal even if the order of their members differs, and the order has to be kept. Not thread-safe.
 */
final class MessageTable {

    /** Random and secret, so that the authors of log lines can't choose labels with colliding hashes. */
    private static final long KEY = new SecureRandom().nextLong() | 1;

    private final ProtobufBuffer data = new ProtobufBuffer();
    private int[] ends = new int[32];
    private int[] hashes = new int[32];
    // The length is a power of two, at most half of the slots are used; 0: free, otherwise a reference.
    private int[] slots = new int[64];
    private int size;

    int capacity() {
        return Math.max(data.capacity(), ends.length);
    }

    /** The buffer to write a message to before calling {@link #reference}. */
    ProtobufBuffer data() {
        return data;
    }

    /** Returns the reference of the message just written to {@link #data}. */
    int reference() {
        byte[] bytes = data.bytes();
        int start = start(size);
        int end = data.length();
        int hash = hash(bytes, start, end);
        int slot = hash & (slots.length - 1);
        for (int found; (found = slots[slot]) != 0; slot = (slot + 1) & (slots.length - 1)) {
            if (hashes[found - 1] == hash
                    && Arrays.equals(bytes, start(found - 1), ends[found - 1], bytes, start, end)) {
                data.truncate(start);
                return found;
            }
        }
        if (size == ends.length) {
            ends = Arrays.copyOf(ends, size * 2);
            hashes = Arrays.copyOf(hashes, size * 2);
        }
        ends[size] = end;
        hashes[size++] = hash;
        slots[slot] = size;
        if (size * 2 > slots.length) {
            rehash();
        }
        return size;
    }

    void writeTo(ProtobufBuffer target, int field) {
        for (int i = 0; i < size; i++) {
            target.bytes(field, data.bytes(), start(i), ends[i] - start(i));
        }
    }

    void clear() {
        data.clear();
        if (size > 0) {
            Arrays.fill(slots, 0);
            size = 0;
        }
    }

    private int start(int index) {
        return index == 0 ? 0 : ends[index - 1];
    }

    private void rehash() {
        slots = new int[slots.length * 2];
        for (int i = 0; i < size; i++) {
            int slot = hashes[i] & (slots.length - 1);
            while (slots[slot] != 0) {
                slot = (slot + 1) & (slots.length - 1);
            }
            slots[slot] = i + 1;
        }
    }

    private static int hash(byte[] bytes, int start, int end) {
        long hash = KEY;
        for (int i = start; i < end; i++) {
            hash = (hash ^ bytes[i]) * KEY;
            hash ^= hash >>> 29;
        }
        return (int) (hash >>> 32);
    }
}
