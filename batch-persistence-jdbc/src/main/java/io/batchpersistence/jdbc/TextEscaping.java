package io.batchpersistence.jdbc;

import org.jspecify.annotations.Nullable;

/**
 * Escapes texts for the database: {@code \\} for a backslash, {@code \0} for the NUL character, which PostgreSQL can't
 * store, and {@code \n} and {@code \r} for line breaks, since failures are stored one a line. Escaped texts are equal
 * if and only if the texts are.
 */
final class TextEscaping {

    private TextEscaping() {}

    static String escape(String text) {
        StringBuilder escaped = null;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            char code = code(c);
            if (code != 0 && escaped == null) {
                escaped = new StringBuilder(text.length() + 8).append(text, 0, i);
            }
            if (escaped != null) {
                if (code != 0) {
                    escaped.append('\\').append(code);
                } else {
                    escaped.append(c);
                }
            }
        }
        return escaped == null ? text : escaped.toString();
    }

    private static char code(char c) {
        return switch (c) {
            case '\\' -> '\\';
            case 0 -> '0';
            case '\n' -> 'n';
            case '\r' -> 'r';
            default -> 0;
        };
    }

    static String unescape(String kept) {
        int at = kept.indexOf('\\');
        if (at < 0) {
            return kept;
        }
        StringBuilder text = new StringBuilder(kept.length());
        int from = 0;
        while (at >= 0 && at + 1 < kept.length()) {
            text.append(kept, from, at);
            char code = kept.charAt(at + 1);
            text.append(
                    switch (code) {
                        case '0' -> '\0';
                        case 'n' -> '\n';
                        case 'r' -> '\r';
                        default -> code;
                    });
            from = at + 2;
            at = kept.indexOf('\\', from);
        }
        return text.append(kept, from, kept.length()).toString();
    }

    static @Nullable String unescapeOrNull(@Nullable String kept) {
        return kept == null ? null : unescape(kept);
    }
}
