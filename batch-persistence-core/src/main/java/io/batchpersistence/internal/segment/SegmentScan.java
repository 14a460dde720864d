package io.batchpersistence.internal.segment;

import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.segment.RecordFormat.View;
import io.batchpersistence.internal.store.PayloadLog;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/** Scans a segment for records, with only the current one in memory, however large the file is. */
final class SegmentScan {

    private static final int WINDOW = 1 << 20;

    private final Disk disk;
    private final Path path;
    private final int segment;
    private final int size;
    private byte[] window = {};
    private int windowAt;

    /**
     * Starts at the beginning.
     *
     * @param fileSize its size; what is beyond 2 GiB can't be a record
     */
    SegmentScan(Disk disk, Path path, int segment, long fileSize) {
        this.disk = disk;
        this.path = path;
        this.segment = segment;
        this.size = (int) Math.min(Integer.MAX_VALUE - 64, fileSize);
    }

    /** Where the zeros before {@code end} begin. */
    int usedEnd(long end) throws IOException {
        int used = (int) Math.min(size, end);
        while (used > 0) {
            int from = Math.max(0, used - WINDOW);
            byte[] bytes = disk.read(path, from, used - from);
            for (int i = bytes.length; i > 0; i--) {
                if (bytes[i - 1] != 0) {
                    return from + i;
                }
            }
            used = from;
        }
        return used;
    }

    /** The intact record that begins there, if one does; otherwise a view that is not a record. */
    View at(int offset) throws IOException {
        View view = view(offset, RecordFormat.MAX_FIXED);
        if (!view.isPlausible(segment, offset)) {
            return view;
        }
        view = view(offset, view.headerEnd());
        return view.hasValidHeader(segment, offset) ? view(offset, view.length()) : view;
    }

    private View view(int offset, int length) throws IOException {
        boolean there = offset >= windowAt && offset - windowAt + (long) length <= window.length;
        if (!there && (offset < windowAt || windowAt + window.length < size)) {
            // With some to spare: the next look is behind this one.
            window = disk.read(path, offset, length + WINDOW);
            windowAt = offset;
        }
        return new View(window, offset - windowAt);
    }

    /** The header of the record that begins there; {@code null} if it is damaged, or makes no sense. */
    PayloadLog.@Nullable Header header(View view, int offset) {
        if (!view.hasValidHeader(segment, offset)) {
            return null;
        }
        try {
            return view.header();
        } catch (DamagedPayloadException e) {
            // The checksum is correct, so it was written like this.
            return null;
        }
    }

    private boolean isRecord(View view, int offset) {
        return header(view, offset) != null && view.hasValidPayload();
    }

    /** Whether an index begins there. */
    boolean isIndex(int offset) throws IOException {
        view(offset, 4);
        int at = offset - windowAt;
        return window.length - at >= 4 && ByteBuffer.wrap(window).getInt(at) == SegmentIndex.MAGIC;
    }

    /** The first intact record from there on; -1 if there is none before {@code end}. */
    int next(int from, int end) throws IOException {
        for (int at = from; at <= end - RecordFormat.MIN_FIXED; at++) {
            if (isRecord(at(at), at)) {
                return at;
            }
        }
        return -1;
    }
}
