package io.batchpersistence;

import java.util.HashMap;
import java.util.Map;
import java.util.function.Predicate;

/**
 * A glob, matched in one pass over the text, whatever the glob and the text are: each character advances the set of all
 * positions in the glob that may have been reached, 64 of them per machine word. A regular expression would try one
 * after the other and backtrack.
 *
 * <p>Position {@code i} is reached when the first {@code i} characters of the glob, asterisks not counted, have been
 * matched. An asterisk before character {@code i} lets position {@code i} stay reached whatever character follows.
 * Immutable.
 */
final class Glob implements Predicate<String> {

    /** Maximum number of characters of a glob: stored reasons are shorter. */
    static final int MAX_LENGTH = 8_192;

    /** By character: the positions at which it may come next. */
    private final Map<Integer, long[]> next = new HashMap<>();
    /** The same for characters that are not in the glob: the positions with a question mark. */
    private final long[] nextOfOthers;
    /** The positions with an asterisk. */
    private final long[] staying;
    /** The position at the end. */
    private final int end;

    Glob(String glob) {
        checkLength(glob);
        int[] characters = glob.codePoints().map(Glob::folded).toArray();
        int words = characters.length / Long.SIZE + 1;
        nextOfOthers = new long[words];
        staying = new long[words];
        int position = 0;
        for (int character : characters) {
            if (character == '*') {
                set(staying, position);
            } else {
                if (character == '?') {
                    set(nextOfOthers, position);
                } else {
                    set(next.computeIfAbsent(character, any -> new long[words]), position);
                }
                position++;
            }
        }
        for (long[] positions : next.values()) {
            for (int word = 0; word < words; word++) {
                positions[word] |= nextOfOthers[word];
            }
        }
        end = position;
    }

    static void checkLength(String glob) {
        if (glob.length() > MAX_LENGTH) {
            throw new IllegalArgumentException(
                    "a glob must have at most " + MAX_LENGTH + " characters, but has " + glob.length());
        }
    }

    private static void set(long[] positions, int position) {
        // The shift uses only the lower six bits of the position.
        positions[position / Long.SIZE] |= 1L << position;
    }

    @Override
    public boolean test(String text) {
        long[] reached = new long[staying.length];
        set(reached, 0);
        for (int at = 0; at < text.length(); ) {
            int character = text.codePointAt(at);
            at += Character.charCount(character);
            long[] advancing = next.getOrDefault(folded(character), nextOfOthers);
            long carried = 0;
            for (int word = 0; word < reached.length; word++) {
                long moving = reached[word] & advancing[word];
                reached[word] = (moving << 1) | carried | (reached[word] & staying[word]);
                carried = moving >>> (Long.SIZE - 1);
            }
        }
        return (reached[end / Long.SIZE] & (1L << end)) != 0;
    }

    private static int folded(int character) {
        return Character.toLowerCase(Character.toUpperCase(character));
    }
}
