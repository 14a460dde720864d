package io.batchpersistence.internal.codec;

import java.nio.charset.StandardCharsets;

/** Converts trace and span ids between hex and bytes. */
final class Hex {

    private static final byte[] DIGITS = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);

    private Hex() {}

    /**
     * Appends the bytes of a hex text, if the text can be restored from them.
     *
     * @return whether the text has two lower-case digits for each of {@code count} bytes; if not, the caller must
     *     discard what was appended
     */
    static boolean append(String text, int count, ProtobufBuffer to) {
        if (text.length() != 2 * count) {
            return false;
        }
        byte[] bytes = new byte[count];
        for (int i = 0; i < count; i++) {
            int value = (digit(text.charAt(2 * i)) << 4) | digit(text.charAt(2 * i + 1));
            if (value < 0) {
                return false;
            }
            bytes[i] = (byte) value;
        }
        to.raw(bytes, 0, count);
        return true;
    }

    static String text(byte[] bytes, int from, int count) {
        byte[] text = new byte[2 * count];
        for (int i = 0; i < count; i++) {
            text[2 * i] = DIGITS[(bytes[from + i] >> 4) & 0xF];
            text[2 * i + 1] = DIGITS[bytes[from + i] & 0xF];
        }
        return new String(text, StandardCharsets.ISO_8859_1);
    }

    private static int digit(char c) {
        if (c >= '0' && c <= '9') {
            return c - '0';
        }
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    }
}
