package io.batchpersistence.internal.store;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * Failure reasons, each kept once however many batches share it. Limited: an outage causes few different reasons, but
 * some collectors put a request id or a port into each. Past {@value #MAX_EXACT} different ones a new reason is kept
 * with its digits as {@code #}, which makes most of them the same; past {@value #MAX} as "(one of many other reasons)".
 */
final class ReasonTable {

    static final int MAX_EXACT = 4_096;
    static final int MAX = 8_192;

    private static final String OTHER = "(one of many other reasons)";
    private static final Pattern DIGITS = Pattern.compile("[0-9]+");

    private final Map<String, Integer> numbers = new HashMap<>();
    private final List<@Nullable String> texts = new ArrayList<>();
    private final List<Integer> uses = new ArrayList<>();
    private final List<Integer> free = new ArrayList<>();

    int acquire(String reason) {
        String kept = reason;
        Integer number = numbers.get(kept);
        if (number == null && numbers.size() >= MAX_EXACT) {
            kept = DIGITS.matcher(reason).replaceAll("#");
            number = numbers.get(kept);
            if (number == null && numbers.size() >= MAX) {
                kept = OTHER;
                number = numbers.get(kept);
            }
        }
        if (number == null) {
            number = allocate(kept);
        } else {
            uses.set(number, uses.get(number) + 1);
        }
        return number;
    }

    private int allocate(String reason) {
        int number;
        if (free.isEmpty()) {
            number = texts.size();
            texts.add(reason);
            uses.add(1);
        } else {
            number = free.remove(free.size() - 1);
            texts.set(number, reason);
            uses.set(number, 1);
        }
        numbers.put(reason, number);
        return number;
    }

    void release(int number) {
        if (number == BatchIndex.NONE) {
            return;
        }
        int left = uses.get(number) - 1;
        uses.set(number, left);
        if (left == 0) {
            numbers.remove(texts.get(number));
            texts.set(number, null);
            free.add(number);
        }
    }

    @Nullable
    String text(int number) {
        return number == BatchIndex.NONE ? null : texts.get(number);
    }
}
