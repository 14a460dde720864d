package io.batchpersistence.codec;

import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/** Numbers different texts in the order they come, from 1. Unlike a map, it boxes nothing. Not thread-safe. */
final class StringTable {

    private @Nullable String[] texts = new @Nullable String[32];
    private int[] slots = new int[128]; // a power of two, at most half full; 0: free, otherwise a reference
    private int size;

    int size() {
        return size;
    }

    int capacity() {
        return texts.length;
    }

    /** The text with this reference, which must be one that {@link #reference} has returned. */
    String text(int reference) {
        String text = texts[reference - 1];
        if (text == null) {
            throw new IllegalArgumentException("no text " + reference);
        }
        return text;
    }

    /** The reference of a text that may be absent: 0 if it is. */
    int referenceOrZero(@Nullable String text) {
        return text == null ? 0 : reference(text);
    }

    int reference(String text) {
        int slot = slot(text.hashCode());
        for (int found; (found = slots[slot]) != 0; slot = (slot + 1) & (slots.length - 1)) {
            if (text.equals(texts[found - 1])) {
                return found;
            }
        }
        if (size == texts.length) {
            texts = Arrays.copyOf(texts, size * 2);
        }
        texts[size++] = text;
        slots[slot] = size;
        if (size * 2 > slots.length) {
            rehash();
        }
        return size;
    }

    void clear() {
        if (size > 0) {
            Arrays.fill(texts, 0, size, null);
            Arrays.fill(slots, 0);
            size = 0;
        }
    }

    private void rehash() {
        slots = new int[slots.length * 2];
        for (int reference = 1; reference <= size; reference++) {
            int slot = slot(text(reference).hashCode());
            while (slots[slot] != 0) {
                slot = (slot + 1) & (slots.length - 1);
            }
            slots[slot] = reference;
        }
    }

    private int slot(int hash) {
        // The upper bits of the product, as many as number the slots.
        return ((hash ^ (hash >>> 16)) * 0x9E3779B9) >>> (Integer.numberOfLeadingZeros(slots.length) + 1);
    }
}
