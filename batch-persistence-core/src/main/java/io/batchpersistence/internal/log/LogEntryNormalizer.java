package io.batchpersistence.internal.log;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.AbstractMap;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.BiConsumer;
import org.jspecify.annotations.Nullable;

/** Normalizes texts and JSON values to the form in which they are stored. */
public final class LogEntryNormalizer {

    /** Maximum number of characters of a batch id or a collector type. */
    public static final int MAX_NAME_LENGTH = 255;

    /** Deeper than any sane log field, shallow enough for every JSON library's default limit (Jackson's is 500). */
    private static final int MAX_DEPTH = 200;

    /** The number of bits of 100,000 decimal digits. */
    private static final int MAX_BITS = 332_193;

    private static final BigInteger MIN_LONG = BigInteger.valueOf(Long.MIN_VALUE);
    private static final BigInteger MAX_LONG = BigInteger.valueOf(Long.MAX_VALUE);

    private LogEntryNormalizer() {}

    public static String name(@Nullable String text, String what) {
        if (text == null || text.isBlank()) {
            throw new IllegalArgumentException(what + " must not be " + (text == null ? "null" : "blank"));
        }
        if (text.length() > MAX_NAME_LENGTH) {
            throw new IllegalArgumentException(what + " must have at most " + MAX_NAME_LENGTH + " characters, but has "
                    + text.length() + ": " + LogSanitizer.of(text.substring(0, 40)) + "…");
        }
        if (!isWellFormed(text)) {
            // Two ids that differ only in a broken character would become one: refuse rather than merge them.
            throw new IllegalArgumentException(what + " contains an unpaired surrogate, which is not a character");
        }
        return text;
    }

    public static boolean isName(String text) {
        return !text.isBlank() && text.length() <= MAX_NAME_LENGTH && isWellFormed(text);
    }

    public static @Nullable String wellFormedOrNull(@Nullable String text) {
        return text == null ? null : wellFormed(text);
    }

    public static String wellFormed(String text) {
        if (isWellFormed(text)) {
            return text;
        }
        StringBuilder repaired = new StringBuilder(text);
        for (int i = 0; i < repaired.length(); i++) {
            char c = repaired.charAt(i);
            if (Character.isHighSurrogate(c)
                    && i + 1 < repaired.length()
                    && Character.isLowSurrogate(repaired.charAt(i + 1))) {
                i++;
            } else if (Character.isSurrogate(c)) {
                repaired.setCharAt(i, '\uFFFD');
            }
        }
        return repaired.toString();
    }

    private static boolean isWellFormed(String text) {
        int seen = 0;
        for (int i = 0; i < text.length(); i++) {
            seen |= text.charAt(i);
        }
        if (seen < Character.MIN_SURROGATE) {
            // The common case, in a loop that the JIT can unroll.
            return true;
        }
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
            } else if (Character.isSurrogate(c)) {
                return false;
            }
        }
        return true;
    }

    public static Map<String, String> texts(Map<String, String> map, String what) {
        if (map.isEmpty()) {
            return Map.of();
        }
        if (map instanceof FrozenLabels) {
            return map;
        }
        FrozenLabels.Builder copy = new FrozenLabels.Builder(map.size());
        map.forEach((key, value) -> copy.add(
                wellFormed(Objects.requireNonNull(key, () -> what + " name must not be null")),
                wellFormed(Objects.requireNonNull(
                        value, () -> what + " '" + LogSanitizer.of(key) + "' must not be null"))));
        // The map may have become empty meanwhile.
        return copy.build();
    }

    public static Map<String, @Nullable Object> jsonObject(Map<String, ? extends @Nullable Object> map) {
        if (map.isEmpty()) {
            return Map.of();
        }
        return map instanceof JsonObject checked ? checked : new JsonObject(object(map, "fields", 0));
    }

    private static Map<String, @Nullable Object> object(Map<?, ?> map, String path, int depth) {
        Map<String, @Nullable Object> copy = new LinkedHashMap<>(map.size() * 4 / 3 + 1);
        map.forEach((key, value) -> {
            if (!(key instanceof String name)) {
                throw new IllegalArgumentException(LogSanitizer.of(path) + " has a key that is not a text but a "
                        + (key == null ? "null" : key.getClass().getName()));
            }
            copy.put(wellFormed(name), json(value, path + "." + name, depth + 1));
        });
        return Collections.unmodifiableMap(copy);
    }

    private static @Nullable Object json(@Nullable Object value, String path, int depth) {
        if (depth > MAX_DEPTH) {
            throw new IllegalArgumentException("fields are nested deeper than " + MAX_DEPTH + " levels");
        }
        if (value == null || value instanceof Boolean || value instanceof Long) {
            return value;
        }
        if (value instanceof String text) {
            return wellFormed(text);
        }
        if (value instanceof Integer || value instanceof Short || value instanceof Byte) {
            return ((Number) value).longValue();
        }
        if (value instanceof Double || value instanceof Float) {
            double number = value instanceof Float ? Double.parseDouble(value.toString()) : (Double) value;
            if (!Double.isFinite(number)) {
                throw new IllegalArgumentException(
                        LogSanitizer.of(path) + " is " + value + ", which JSON can't express");
            }
            return number;
        }
        if (value instanceof BigInteger integer) {
            checkDigits(integer, path);
            return integer.compareTo(MIN_LONG) >= 0 && integer.compareTo(MAX_LONG) <= 0
                    ? (Object) integer.longValue()
                    : integer;
        }
        if (value instanceof BigDecimal decimal) {
            checkDigits(decimal.unscaledValue(), path);
            return value;
        }
        if (value instanceof List<?> list) {
            List<@Nullable Object> copy = new ArrayList<>(list.size());
            for (Object element : list) {
                copy.add(json(element, path + "[" + copy.size() + "]", depth + 1));
            }
            return Collections.unmodifiableList(copy);
        }
        if (value instanceof Map<?, ?> map) {
            return object(map, path, depth);
        }
        throw new IllegalArgumentException(
                LogSanitizer.of(path) + " is a " + value.getClass().getName()
                        + ", but must be null, Boolean, Number, String, List or Map; convert it first");
    }

    /** Refuses larger numbers, because converting them to digits would take too long. */
    private static void checkDigits(BigInteger number, String path) {
        if (number.bitLength() > MAX_BITS) {
            throw new IllegalArgumentException(LogSanitizer.of(path) + " is a number of more than 100,000 digits");
        }
    }

    /**
     * Checked fields that can't be changed: entries may share them. Like {@link Collections#unmodifiableMap}, but
     * recognizable as our own: behind any other unmodifiable map the original may still be changed by its owner.
     */
    private static final class JsonObject extends AbstractMap<String, @Nullable Object> {

        private final Map<String, @Nullable Object> map;

        JsonObject(Map<String, @Nullable Object> checked) {
            this.map = Collections.unmodifiableMap(checked);
        }

        @Override
        public Set<Map.Entry<String, @Nullable Object>> entrySet() {
            return map.entrySet();
        }

        @Override
        public int size() {
            return map.size();
        }

        @Override
        public boolean containsKey(@Nullable Object key) {
            return map.containsKey(key);
        }

        @Override
        public @Nullable Object get(@Nullable Object key) {
            return map.get(key);
        }

        @Override
        public Set<String> keySet() {
            return map.keySet();
        }

        @Override
        public Collection<@Nullable Object> values() {
            return map.values();
        }

        @Override
        public void forEach(BiConsumer<? super String, ? super @Nullable Object> action) {
            map.forEach(action);
        }
    }
}
