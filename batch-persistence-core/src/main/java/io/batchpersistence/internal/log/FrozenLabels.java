package io.batchpersistence.internal.log;

import java.util.AbstractMap;
import java.util.AbstractSet;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Objects;
import java.util.Set;
import java.util.function.BiConsumer;
import org.jspecify.annotations.Nullable;

/**
 * Checked texts by name, at least one, in their order: the labels of an entry, or a batch's context. They can't be
 * changed, so entries may share them. Kept as an array, because the labels of every entry are read when a batch is
 * encoded. Thread-safe.
 */
public final class FrozenLabels extends AbstractMap<String, String> {

    /** With more labels than this, a hash table is faster than looking at each. */
    private static final int MAX_SEARCHED = 8;

    /** Name, value, name, value, … */
    private final String[] texts;

    private final int length;
    /** Where each name is in the texts; only if there are many. */
    private final @Nullable Map<String, Integer> positions;

    private FrozenLabels(String[] texts, int length, @Nullable Map<String, Integer> positions) {
        this.texts = texts;
        this.length = length;
        this.positions = positions;
    }

    /** Collects texts. Not thread-safe. */
    static final class Builder {

        private String[] texts;
        private int length;
        private @Nullable Map<String, Integer> positions;

        Builder(int expectedSize) {
            texts = new String[2 * expectedSize];
        }

        /** A name that is there already gets the new value. */
        void add(String name, String value) {
            int at = find(texts, length, positions, name);
            if (at >= 0) {
                texts[at + 1] = value;
                return;
            }
            if (length == texts.length) {
                texts = Arrays.copyOf(texts, 2 * length + 2);
            }
            texts[length] = name;
            texts[length + 1] = value;
            length += 2;
            if (positions != null) {
                positions.put(name, length - 2);
            } else if (length > 2 * MAX_SEARCHED) {
                positions = new HashMap<>();
                for (int i = 0; i < length; i += 2) {
                    positions.put(texts[i], i);
                }
            }
        }

        /** To be called once. */
        Map<String, String> build() {
            return length == 0 ? Map.of() : new FrozenLabels(texts, length, positions);
        }
    }

    /** The same names in the same order; with checked values of others. Does not copy the texts. */
    FrozenLabels withTexts(String... sameNames) {
        return new FrozenLabels(sameNames, length, positions);
    }

    private static int find(
            String[] texts, int length, @Nullable Map<String, Integer> positions, @Nullable Object name) {
        if (positions != null) {
            return positions.getOrDefault(name, -1);
        }
        for (int i = 0; i < length; i += 2) {
            if (texts[i].equals(name)) {
                return i;
            }
        }
        return -1;
    }

    /**
     * Returns the number of texts.
     *
     * @return names and values together
     */
    public int length() {
        return length;
    }

    /**
     * Returns a name or a value.
     *
     * @param index even for a name, the next index for its value; less than {@link #length()}
     * @return the text
     */
    public String text(int index) {
        return texts[Objects.checkIndex(index, length)];
    }

    private int find(@Nullable Object name) {
        return find(texts, length, positions, name);
    }

    @Override
    public int size() {
        return length / 2;
    }

    @Override
    public boolean containsKey(@Nullable Object key) {
        return find(key) >= 0;
    }

    @Override
    public @Nullable String get(@Nullable Object key) {
        int at = find(key);
        return at < 0 ? null : texts[at + 1];
    }

    @Override
    public void forEach(BiConsumer<? super String, ? super String> action) {
        for (int i = 0; i < length; i += 2) {
            action.accept(texts[i], texts[i + 1]);
        }
    }

    @Override
    public Set<Map.Entry<String, String>> entrySet() {
        return new AbstractSet<>() {
            @Override
            public int size() {
                return FrozenLabels.this.size();
            }

            @Override
            public Iterator<Map.Entry<String, String>> iterator() {
                return new Entries();
            }
        };
    }

    private final class Entries implements Iterator<Map.Entry<String, String>> {

        private int at;

        @Override
        public boolean hasNext() {
            return at < length;
        }

        @Override
        public Map.Entry<String, String> next() {
            if (at == length) {
                throw new NoSuchElementException();
            }
            at += 2;
            return Map.entry(texts[at - 2], texts[at - 1]);
        }
    }
}
