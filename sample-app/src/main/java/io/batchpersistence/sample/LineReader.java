package io.batchpersistence.sample;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * Splits a file into lines, from any position. Lines end with LF or CR LF; bytes that are not UTF-8 become U+FFFD; a
 * line longer than the limit is returned in parts, split between characters, always at the same places. Reads at
 * explicit offsets, so the channel's own position doesn't matter. All files share one buffer: not thread-safe.
 */
final class LineReader {

    private static final int FIRST_CAPACITY = 64 * 1024;

    /**
     * A line, or a part of a line.
     *
     * @param at where it starts
     * @param next where the next one starts
     * @param text the text without the line end
     */
    record Line(Position at, Position next, String text) {

        /** Whether this is one of several parts of a longer line. */
        boolean isPart() {
            return at.part() > 0 || next.part() > 0;
        }
    }

    private final int maxLineLength;
    private byte[] buffer;
    private @Nullable FileChannel file;
    /** The position of {@code buffer[start]}. */
    private Position position = Position.START;

    private int start;
    private int scanned;
    private int end;

    /**
     * Creates a reader.
     *
     * @param maxLineLength the maximum length of a line in bytes, with its CR but without its LF
     */
    LineReader(int maxLineLength) {
        this.maxLineLength = maxLineLength;
        this.buffer = new byte[Math.min(FIRST_CAPACITY, maxLineLength + 1)];
    }

    /** Continues with another file or at another position. Discards what was read ahead. */
    void open(FileChannel next, Position from) {
        file = next;
        position = from;
        start = 0;
        scanned = 0;
        end = 0;
    }

    Position position() {
        return position;
    }

    /** The number of bytes after the last line end; valid after {@link #next()} has returned {@code null}. */
    int restLength() {
        return end - start;
    }

    /**
     * Returns the next line that has a line end, or the next part of one that is too long; {@code null} if there is
     * none yet.
     */
    @Nullable
    Line next() throws IOException {
        while (true) {
            while (scanned < end && buffer[scanned] != '\n') {
                scanned++;
            }
            int length = scanned - start;
            if (length > maxLineLength) {
                return part(cut());
            }
            if (scanned < end) {
                Position next = position.afterLine(length + 1L);
                return take(length, length + 1, next);
            }
            if (!fill()) {
                return null;
            }
        }
    }

    /**
     * Returns the text after the last line end as a part; to be called after {@link #next()} has returned {@code null}.
     */
    @Nullable
    Line rest() {
        return end > start ? part(end - start) : null;
    }

    private Line part(int length) {
        return take(length, length, position.afterPart(length));
    }

    private Line take(int length, int consumed, Position next) {
        boolean lineEnds = next.part() == 0 || start + length == end;
        boolean carriageReturn = lineEnds && length > 0 && buffer[start + length - 1] == '\r';
        String text = new String(buffer, start, carriageReturn ? length - 1 : length, StandardCharsets.UTF_8);
        Line line = new Line(position, next, text);
        start += consumed;
        scanned = start;
        position = next;
        return line;
    }

    /** Where to split a line that is too long: not inside a character. */
    private int cut() {
        int cut = maxLineLength;
        while (cut > maxLineLength - 4 && cut > 1 && (buffer[start + cut] & 0xC0) == 0x80) {
            cut--;
        }
        return (buffer[start + cut] & 0xC0) == 0x80 ? maxLineLength : cut;
    }

    private boolean fill() throws IOException {
        if (file == null) {
            return false;
        }
        if (end == buffer.length) {
            if (start > 0) {
                System.arraycopy(buffer, start, buffer, 0, end - start);
                end -= start;
                scanned -= start;
                start = 0;
            } else {
                buffer = Arrays.copyOf(buffer, (int) Math.min(maxLineLength + 1L, buffer.length * 2L));
            }
        }
        int read = file.read(ByteBuffer.wrap(buffer, end, buffer.length - end), position.offset() + (end - start));
        if (read <= 0) {
            return false;
        }
        end += read;
        return true;
    }
}
