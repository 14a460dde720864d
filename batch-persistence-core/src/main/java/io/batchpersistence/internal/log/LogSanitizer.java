package io.batchpersistence.internal.log;

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
 * Sanitizes untrusted text (ids, reasons, responses of collectors, file names) for a log line, an exception message or
 * a screen: it can't start a new line, reverse the order of characters or colour a terminal.
 *
 * <p>Thread-safe. If there is nothing to replace, it costs one look at each character.
 */
public final class LogSanitizer {

    /** Maximum number of characters; longer texts are truncated. */
    private static final int MAX_LENGTH = 4_096;

    private LogSanitizer() {}

    /**
     * Replaces characters that must not be printed by their code, as in {@code \}{@code u000A}: control characters,
     * line and paragraph separators, invisible formatting characters, unpaired surrogates, and private-use and
     * unassigned characters. Texts of more than 4,096 characters are truncated.
     *
     * @param text any object; its {@code toString} is used
     * @return one line; the same string if there is nothing to replace
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
        // Replacements are longer than what they replace, so equal lengths mean that nothing was replaced.
        return line.length() == text.length() ? text : line.toString();
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
     * Creates a logger that sanitizes every argument and every exception's message in this way.
     *
     * @param name the class that logs
     * @return a logger that delegates to the logger of that class
     */
    public static Logger logger(Class<?> name) {
        return new SingleLineLogger(LoggerFactory.getLogger(name));
    }

    /**
     * Returns the exception itself if none of its messages contains anything to replace, otherwise one that prints
     * alike, but sanitized.
     */
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

    /** The exception's own description; {@code null} if {@code toString} fails. */
    private static @Nullable String described(Throwable thrown) {
        try {
            return thrown.toString();
        } catch (RuntimeException | StackOverflowError e) {
            return null;
        }
    }

    /** Stands in for another exception in a log: its text, stack trace and causes. */
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

        /** As the original describes itself, without the name of this class, which getMessage() would leave. */
        @Override
        @SuppressWarnings("OverrideThrowableToString")
        public String toString() {
            return String.valueOf(getMessage());
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

        /** The class whose method the logging code calls, with which a log can determine the location of the call. */
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
        // slf4j has no nullness annotations; everything but level and message may be null.
        @SuppressWarnings("NullAway")
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
