package io.batchpersistence.spring.operator;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchState;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.spi.NewBatch;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.SortedSet;
import java.util.TreeSet;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.convert.DurationStyle;

/**
 * The conditions of an operator's request that select batches. Immutable.
 *
 * <p>{@code id}, {@code collectorType} and {@code state} (pending, in_flight, dead) may be given more than once; {@code
 * failureReason} is a glob; {@code olderThan} and {@code youngerThan} are durations such as 90s, 1h, 7d or PT1H; {@code
 * minRetries} and {@code maxRetries}; {@code limit}; {@code order} (oldest_first, newest_first); {@code after} is the
 * value of {@code next} of the previous page. A blank value is an error: a condition that was meant to narrow down must
 * not select everything.
 */
public final class Conditions {

    /** No conditions. */
    public static final Conditions NONE = new Conditions(Map.of());

    private static final String ID = "id";
    private static final String COLLECTOR_TYPE = "collectorType";
    private static final String STATE = "state";
    private static final String FAILURE_REASON = "failureReason";
    private static final String OLDER_THAN = "olderThan";
    private static final String YOUNGER_THAN = "youngerThan";
    private static final String MIN_RETRIES = "minRetries";
    private static final String MAX_RETRIES = "maxRetries";
    private static final String LIMIT = "limit";
    private static final String ORDER = "order";
    private static final String AFTER = "after";

    /** The maximum length of any value except a glob, in characters: a response may quote it. */
    private static final int MAX_LENGTH = 1_000;

    private static final Set<String> NARROWING =
            Set.of(ID, COLLECTOR_TYPE, STATE, FAILURE_REASON, OLDER_THAN, YOUNGER_THAN, MIN_RETRIES, MAX_RETRIES);

    private static final SortedSet<String> NAMES =
            Collections.unmodifiableSortedSet(Stream.concat(NARROWING.stream(), Stream.of(LIMIT, ORDER, AFTER))
                    .collect(Collectors.toCollection(TreeSet::new)));

    private final Map<String, List<String>> values;

    private Conditions(Map<String, List<String>> values) {
        this.values = values;
    }

    /**
     * Returns the names of all conditions.
     *
     * @return the names, in alphabetical order
     */
    public static SortedSet<String> names() {
        return NAMES;
    }

    /**
     * Adds a condition.
     *
     * @param name one of {@link #names()}
     * @param value a text, a number, or several in a collection or an array; {@code null} for no condition
     * @return the conditions with this one added
     */
    public Conditions with(String name, @Nullable Object value) {
        List<String> texts = new ArrayList<>();
        if (value instanceof Collection<?> several) {
            several.forEach(each -> texts.add(String.valueOf(each)));
        } else if (value instanceof Object[] several) {
            Arrays.stream(several).forEach(each -> texts.add(String.valueOf(each)));
        } else if (value != null) {
            texts.add(String.valueOf(value));
        }
        if (texts.isEmpty()) {
            return this;
        }
        Map<String, List<String>> more = new HashMap<>(values);
        more.put(name, List.copyOf(texts));
        return new Conditions(more);
    }

    /** Whether the conditions select anything less than all batches. */
    boolean narrowsDown() {
        return values.keySet().stream().anyMatch(NARROWING::contains);
    }

    /** The ids given; empty if there are none. */
    List<String> ids() {
        return values.getOrDefault(ID, List.of());
    }

    /** The one collector type given. */
    String collectorType() {
        List<String> names = values.getOrDefault(COLLECTOR_TYPE, List.of());
        if (names.size() != 1) {
            throw OperatorRequestException.bad("collectorType must be named, exactly one");
        }
        return checked(() -> NewBatch.checkedCollectorType(names.get(0)));
    }

    /** A value that no batch can have is an error in the request. */
    private static <T> T checked(Supplier<T> part) {
        try {
            return part.get();
        } catch (IllegalArgumentException e) {
            throw OperatorRequestException.bad(String.valueOf(e.getMessage()));
        }
    }

    Set<BatchState> states() {
        return values.getOrDefault(STATE, List.of()).stream()
                .map(text -> constant(BatchState.class, STATE, text))
                .collect(Collectors.toSet());
    }

    BatchSelector selector(int defaultLimit, int maxLimit) {
        values.forEach((name, texts) -> {
            if (texts.stream().anyMatch(String::isBlank)) {
                throw OperatorRequestException.bad(name + " must not be blank; leave it out if any is meant");
            }
            if (!name.equals(FAILURE_REASON) && texts.stream().anyMatch(text -> text.length() > MAX_LENGTH)) {
                throw OperatorRequestException.bad(name + " must have at most " + MAX_LENGTH + " characters");
            }
        });
        BatchSelector selector = checked(() -> BatchSelector.all()
                        .ids(ids().toArray(String[]::new))
                        .collectorTypes(
                                values.getOrDefault(COLLECTOR_TYPE, List.of()).toArray(String[]::new)))
                .failureReason(glob())
                .olderThan(duration(OLDER_THAN))
                .youngerThan(duration(YOUNGER_THAN))
                .after(position());
        BatchState[] states = states().toArray(BatchState[]::new);
        if (states.length > 0) {
            selector = selector.states(states[0], states);
        }
        int minRetries = number(MIN_RETRIES, 0, 0, Integer.MAX_VALUE);
        int maxRetries = number(MAX_RETRIES, Integer.MAX_VALUE, 0, Integer.MAX_VALUE);
        if (minRetries > maxRetries) {
            throw OperatorRequestException.bad(
                    "minRetries is " + minRetries + ", but must be at most maxRetries, which is " + maxRetries);
        }
        String order = single(ORDER);
        return selector.retries(minRetries, maxRetries)
                .limit(number(LIMIT, defaultLimit, 1, maxLimit))
                .order(order == null ? BatchOrder.OLDEST_FIRST : constant(BatchOrder.class, ORDER, order));
    }

    private @Nullable String single(String name) {
        List<String> texts = values.getOrDefault(name, List.of());
        if (texts.size() > 1) {
            throw OperatorRequestException.bad(name + " must be named once, but is " + texts.size() + " times");
        }
        return texts.isEmpty() ? null : texts.get(0);
    }

    private @Nullable String glob() {
        String glob = single(FAILURE_REASON);
        try {
            return BatchSelector.all().failureReason(glob).failureReason();
        } catch (IllegalArgumentException e) {
            throw OperatorRequestException.bad(FAILURE_REASON + ": " + e.getMessage());
        }
    }

    private @Nullable Duration duration(String name) {
        String text = single(name);
        if (text == null) {
            return null;
        }
        try {
            Duration duration = DurationStyle.detectAndParse(text.strip());
            if (!duration.isNegative()) {
                return duration;
            }
        } catch (IllegalArgumentException | ArithmeticException e) {
            // Report it like a negative duration.
        }
        throw OperatorRequestException.bad(
                name + " must be a duration such as 90s, 1h or 7d, but is '" + LogSanitizer.of(text) + "'");
    }

    private int number(String name, int absent, int least, int most) {
        String text = single(name);
        if (text == null) {
            return absent;
        }
        try {
            int number = Integer.parseInt(text.strip());
            if (number >= least && number <= most) {
                return number;
            }
        } catch (NumberFormatException e) {
            // Report it like a number out of range.
        }
        throw OperatorRequestException.bad(
                name + " must be a number from " + least + " to " + most + ", but is '" + LogSanitizer.of(text) + "'");
    }

    private @Nullable Long position() {
        String text = single(AFTER);
        try {
            return text == null ? null : Long.valueOf(text.strip());
        } catch (NumberFormatException e) {
            throw OperatorRequestException.bad(
                    "after must be what 'next' of the page before said, but is '" + LogSanitizer.of(text) + "'");
        }
    }

    private static <E extends Enum<E>> E constant(Class<E> type, String name, String text) {
        for (E constant : type.getEnumConstants()) {
            if (constant.name().equalsIgnoreCase(text.strip().replace('-', '_'))) {
                return constant;
            }
        }
        throw OperatorRequestException.bad(name + " must be one of "
                + Arrays.stream(type.getEnumConstants())
                        .map(constant -> constant.name().toLowerCase(Locale.ROOT))
                        .collect(Collectors.joining(", "))
                + ", but is '" + LogSanitizer.of(text) + "'");
    }
}
