package io.batchpersistence.internal.log;

import io.batchpersistence.LogEntry;
import java.util.AbstractMap;
import java.util.Map;
import java.util.Set;

/**
 * How a decoder tells {@link LogEntry} that all texts of an entry, not only its labels, are well-formed, so that they
 * are not checked character by character again: a text that was decoded from UTF-8 has no unpaired surrogates, whatever
 * the bytes were. An entry keeps {@link #labels()}, not this: it says nothing about other entries with these labels.
 * Immutable.
 */
public final class DecodedLabels extends AbstractMap<String, String> {

    /** For entries without labels. */
    public static final DecodedLabels NONE = new DecodedLabels(Map.of());

    private final Map<String, String> labels;

    private DecodedLabels(Map<String, String> labels) {
        this.labels = labels;
    }

    /**
     * Creates labels. A name that is there twice has the last value.
     *
     * @param texts name, value, name, value, …; all of them decoded from UTF-8
     * @return the labels in their order
     */
    public static DecodedLabels of(String... texts) {
        FrozenLabels.Builder builder = new FrozenLabels.Builder(texts.length / 2);
        for (int i = 0; i < texts.length; i += 2) {
            builder.add(texts[i], texts[i + 1]);
        }
        return new DecodedLabels(builder.build());
    }

    /**
     * Creates labels with the same names.
     *
     * @param texts as for {@link #of}, with the names of these labels in the same order
     * @return the labels
     */
    public DecodedLabels withTexts(String... texts) {
        return labels instanceof FrozenLabels names ? new DecodedLabels(names.withTexts(texts)) : of(texts);
    }

    /**
     * Returns what an entry keeps.
     *
     * @return checked labels that can't be changed
     */
    public Map<String, String> labels() {
        return labels;
    }

    @Override
    public Set<Map.Entry<String, String>> entrySet() {
        return labels.entrySet();
    }
}
