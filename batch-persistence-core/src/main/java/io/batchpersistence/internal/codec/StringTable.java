package io.batchpersistence.internal.codec;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Numbers distinct texts in order of appearance, from 1. Unlike a map, it boxes nothing, as long as not too many texts
 * share a hash, which an attacker may provoke with crafted log lines. Not thread-safe.
 */
final class StringTable {

    /** Maximum number of slots inspected for one text; with hashes that were not chosen on purpose it is a few. */
    private static final int MAX_PROBES = 256;

    private @Nullable String[] texts = new @Nullable String[32];
    // The length is a power of two, at most half of the slots are used; 0: free, otherwise a reference.
    private int[] slots = new int[128];
    private int size;
    /** Replaces the slots when too many texts collide: it copes with equal hashes, because texts are comparable. */
    private @Nullable Map<String, Integer> crowded;

    int size() {
        return size;
    }

    int capacity() {
        return texts.length;
    }

    /** Returns the text with this reference, which must be one that {@link #reference} returned. */
    String text(int reference) {
        String text = texts[reference - 1];
        if (text == null) {
            throw new IllegalArgumentException("no text " + reference);
        }
        return text;
    }

    /** Returns the reference of a text, or 0 if the text is absent. */
    int referenceOrZero(@Nullable String text) {
        return text == null ? 0 : reference(text);
    }

    int reference(String text) {
        if (crowded != null) {
            return reference(text, crowded);
        }
        int slot = slot(text.hashCode());
        int probes = 0;
        for (int found; (found = slots[slot]) != 0; slot = (slot + 1) & (slots.length - 1)) {
            if (text.equals(texts[found - 1])) {
                return found;
            }
            if (++probes == MAX_PROBES) {
                crowded = byText();
                return reference(text, crowded);
            }
        }
        add(text);
        slots[slot] = size;
        if (size * 2 > slots.length) {
            rehash();
        }
        return size;
    }

    private int reference(String text, Map<String, Integer> known) {
        Integer reference = known.get(text);
        if (reference == null) {
            add(text);
            reference = size;
            known.put(text, reference);
        }
        return reference;
    }

    private Map<String, Integer> byText() {
        Map<String, Integer> map = new HashMap<>();
        for (int reference = 1; reference <= size; reference++) {
            map.put(text(reference), reference);
        }
        return map;
    }

    private void add(String text) {
        if (size == texts.length) {
            texts = Arrays.copyOf(texts, size * 2);
        }
        texts[size++] = text;
    }

    void clear() {
        if (size > 0) {
            Arrays.fill(texts, 0, size, null);
            Arrays.fill(slots, 0);
            size = 0;
            crowded = null;
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
        // The upper bits of the product, as many as it takes to number the slots.
        return ((hash ^ (hash >>> 16)) * 0x9E3779B9) >>> (Integer.numberOfLeadingZeros(slots.length) + 1);
    }
}
