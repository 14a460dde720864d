package io.batchpersistence.internal.segment;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.internal.disk.MemoryDisk;
import io.batchpersistence.internal.segment.RecordFormat.View;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.zip.CRC32C;

/** Any file can be scanned. An index with a valid checksum has entries within the file, or none. */
public final class SegmentFuzz {

    @FuzzTest
    void fuzz(byte[] input) {
        check(input);
    }

    public static void check(byte[] input) {
        scan(input);
        index(input);
    }

    private static void scan(byte[] input) {
        Path path = Path.of("0000000001.segment");
        MemoryDisk disk = new MemoryDisk();
        disk.put(path, input);
        int segment = input.length < 12 ? 1 : ByteBuffer.wrap(input).getInt(8);
        SegmentScan scan = new SegmentScan(disk, path, segment, input.length);
        try {
            SegmentHead.read(disk, path, segment);
            int end = scan.usedEnd(Long.MAX_VALUE);
            for (int at = 0; at < end; ) {
                View view = scan.at(at);
                scan.isIndex(at);
                if (scan.header(view, at) != null && view.hasValidPayload()) {
                    at += view.length();
                } else {
                    int next = scan.next(at + 1, end);
                    if (next >= 0 && next <= at) {
                        throw new AssertionError("goes back");
                    }
                    at = next < 0 ? end : next;
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void index(byte[] input) {
        byte[] bytes = Arrays.copyOf(input, input.length + 24);
        System.arraycopy(input, 0, bytes, 4, input.length);
        int offset = 1_000_000;
        ByteBuffer out = ByteBuffer.wrap(bytes);
        out.putInt(0, SegmentIndex.MAGIC);
        out.putLong(bytes.length - 20, offset).putInt(bytes.length - 12, 1);
        CRC32C crc = new CRC32C();
        crc.update(bytes, 0, bytes.length - 8);
        out.putInt(bytes.length - 8, (int) crc.getValue());
        var entries = SegmentIndex.parse(bytes, offset);
        if (entries != null) {
            for (SegmentIndex.Entry entry : entries) {
                if (entry.offset() < 0 || entry.length() <= 0 || (long) entry.offset() + entry.length() > offset) {
                    throw new AssertionError("beyond the records");
                }
            }
        }
    }
}
