package io.batchpersistence;

import java.util.Collections;
import java.util.HexFormat;
import java.util.IdentityHashMap;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.Marker;
import org.slf4j.event.Level;
import org.slf4j.helpers.LegacyAbstractLogger;
import org.slf4j.spi.LocationAwareLogger;

/**
 * Text from elsewhere (ids, reasons, what a collector answered, names of files) made fit to stand in a line of log, an exception's
 * message or on a screen: nobody can begin a line of their own with it, turn the order of characters around or colour a
 * terminal.
 *
 * <p>Thread-safe. Costs a look at each character where there is nothing to replace.
 */
public final class SingleLine {

    /** Longer texts are cut off. */
    private static final int MAX_LENGTH = 4_096;

    private SingleLine() {}

    /**
     * Replaces what is not to be printed as it is by its number, as in {@code \}{@code u000A}: control characters, line and
     * paragraph separators, characters without a shape that change how others are shown, and half characters. What is longer
     * than 4,096 characters is cut off.
     *
     * @param text anything; its {@code toString} is taken
     * @return one line; the very text if there is nothing to replace
     */
    public static String of(@Nullable Object text) {
        String given = String.valueOf(text);
        int length = Math.min(given.length(), MAX_LENGTH);
        for (int i = 0; i < length; i++) {
            char c = given.charAt(i);
            if (c < ' ' || c > '~') {
                return replaced(given, i, length);
            }
        }
        return length == given.length() ? given : given.substring(0, length) + "…";
    }

    private static String replaced(String text, int from, int end) {
        StringBuilder line = new StringBuilder(end + 16).append(text, 0, from);
        int at = from;
        while (at < end) {
            int character = text.codePointAt(at);
            if (isPrintable(character)) {
                line.appendCodePoint(character);
            } else {
                for (char c : Character.toChars(character)) {
                    line.append("\\u").append(HexFormat.of().withUpperCase().toHexDigits(c));
                }
            }
            at += Character.charCount(character);
        }
        if (at < text.length()) {
            return line.append('…').toString();
        }
        return line.length() == text.length() ? text : line.toString(); // what is replaced gets longer
    }

    private static boolean isPrintable(int character) {
        return switch (Character.getType(character)) {
            case Character.CONTROL,
                    Character.FORMAT,
                    Character.LINE_SEPARATOR,
                    Character.PARAGRAPH_SEPARATOR,
                    Character.SURROGATE,
                    Character.PRIVATE_USE,
                    Character.UNASSIGNED -> false;
            default -> true;
        };
    }

    /**
     * A logger that prints every argument, and every exception's message, in this way.
     *
     * @param name the class that logs
     * @return a logger that passes everything on to the one of that name
     */
    public static Logger logger(Class<?> name) {
        return new SingleLineLogger(LoggerFactory.getLogger(name));
    }

    /** The same, if none of its messages contains anything that has to be replaced; else one that prints alike, but safely. */
    static Throwable printable(Throwable thrown) {
        return isPrintable(thrown, Collections.newSetFromMap(new IdentityHashMap<>()))
                ? thrown
                : new PrintableThrowable(thrown, Collections.newSetFromMap(new IdentityHashMap<>()));
    }

    private static boolean isPrintable(@Nullable Throwable thrown, Set<Throwable> seen) {
        if (thrown == null || !seen.add(thrown)) {
            return true;
        }
        String described = described(thrown);
        if (described == null || !of(described).equals(described) || !isPrintable(thrown.getCause(), seen)) {
            return false;
        }
        for (Throwable suppressed : thrown.getSuppressed()) {
            if (!isPrintable(suppressed, seen)) {
                return false;
            }
        }
        return true;
    }

    /** What it says of itself; {@code null} if it can't. */
    private static @Nullable String described(Throwable thrown) {
        try {
            return thrown.toString();
        } catch (RuntimeException | StackOverflowError e) {
            return null;
        }
    }

    /** Stands for another in a log: its text, its stack, its causes. */
    private static final class PrintableThrowable extends Throwable {

        private static final long serialVersionUID = 1L;

        PrintableThrowable(Throwable original, Set<Throwable> seen) {
            super(text(original), cause(original, seen), true, true);
            setStackTrace(original.getStackTrace());
            for (Throwable suppressed : original.getSuppressed()) {
                if (seen.add(suppressed)) {
                    addSuppressed(new PrintableThrowable(suppressed, seen));
                }
            }
        }

        private static String text(Throwable original) {
            String described = described(original);
            return described == null ? original.getClass().getName() : of(described);
        }

        private static @Nullable Throwable cause(Throwable original, Set<Throwable> seen) {
            seen.add(original);
            Throwable cause = original.getCause();
            return cause == null || !seen.add(cause) ? null : new PrintableThrowable(cause, seen);
        }
    }

    private static final class SingleLineLogger extends LegacyAbstractLogger {

        private static final long serialVersionUID = 1L;

        /** The class whose method the logging code calls: with it a log can tell where that was. */
        private static final String CALLED = "org.slf4j.helpers.AbstractLogger";

        private final transient Logger logger;

        SingleLineLogger(Logger logger) {
            this.logger = logger;
            this.name = logger.getName();
        }

        @Override
        protected @Nullable String getFullyQualifiedCallerName() {
            return CALLED;
        }

        @Override
        @SuppressWarnings("NullAway") // slf4j says nothing about nulls; all but level and message may be null
        protected void handleNormalizedLoggingCall(
                Level level,
                @Nullable Marker marker,
                String message,
                Object @Nullable [] arguments,
                @Nullable Throwable thrown) {
            Object[] printed = arguments == null ? new Object[0] : new Object[arguments.length];
            for (int i = 0; i < printed.length; i++) {
                printed[i] = arguments[i] instanceof Number number ? number : of(arguments[i]);
            }
            Throwable printedThrown = thrown == null ? null : printable(thrown);
            DeferredLog.write(() -> {
                if (logger instanceof LocationAwareLogger located) {
                    located.log(marker, CALLED, level.toInt(), message, printed, printedThrown);
                } else {
                    logger.makeLoggingEventBuilder(level)
                            .setCause(printedThrown)
                            .log(message, printed);
                }
            });
        }

        @Override
        public boolean isTraceEnabled() {
            return logger.isTraceEnabled();
        }

        @Override
        public boolean isDebugEnabled() {
            return logger.isDebugEnabled();
        }

        @Override
        public boolean isInfoEnabled() {
            return logger.isInfoEnabled();
        }

        @Override
        public boolean isWarnEnabled() {
            return logger.isWarnEnabled();
        }

        @Override
        public boolean isErrorEnabled() {
            return logger.isErrorEnabled();
        }
    }
}
