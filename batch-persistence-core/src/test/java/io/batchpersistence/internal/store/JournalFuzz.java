package io.batchpersistence.internal.store;

import com.code_intelligence.jazzer.junit.FuzzTest;
import io.batchpersistence.internal.disk.MemoryDisk;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.zip.CRC32C;

/**
 * Journals and snapshots with any bytes can be read. The input is a series of frames: kind, length, body. Marker and
 * checksums are added, unless the highest bit of the kind is set. The first byte says whether a snapshot is among them.
 */
public final class JournalFuzz {

    private static final Path DIRECTORY = Path.of("store");

    @FuzzTest
    void fuzz(byte[] input) {
        check(input);
    }

    public static void check(byte[] input) {
        if (input.length == 0) {
            return;
        }
        MemoryDisk disk = new MemoryDisk();
        int half = input[0] % 2 == 0 ? 1 : input.length / 2;
        if (half > 1) {
            disk.put(DIRECTORY.resolve("state-0000000000000003.snapshot"), file("BPSNAPS\1", input, 1, half));
        }
        disk.put(DIRECTORY.resolve("state-0000000000000003.journal"), file("BPSTATE\1", input, half, input.length));
        JournalState state = new JournalState();
        try {
            StateJournal.read(disk, DIRECTORY, state, (file, offset, length, reason) -> {
                        if (offset < 0 || length < 0) {
                            throw new AssertionError("damage at " + offset + ", " + length);
                        }
                    })
                    .close();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        state.isGone(1);
        state.persistedState(1);
    }

    private static byte[] file(String magic, byte[] input, int from, int to) {
        ByteBuffer out = ByteBuffer.allocate(20 + 8 * (to - from) + to - from);
        out.put(magic.getBytes(StandardCharsets.ISO_8859_1)).putLong(3);
        CRC32C crc = new CRC32C();
        crc.update(out.array(), 0, 16);
        out.putInt((int) crc.getValue());
        byte[] seed = JournalFrames.seed(3);
        int at = from;
        while (at + 2 <= to) {
            byte kind = input[at++];
            int length = Math.min(input[at++] & 0xFF, to - at);
            int start = out.position();
            out.put(JournalFrames.MARKER)
                    .put((byte) (kind & 0x7F))
                    .putShort((short) length)
                    .putInt(0);
            out.put(input, at, length);
            at += length;
            if (kind >= 0) {
                CRC32C frame = new CRC32C();
                frame.update(seed);
                frame.update(out.array(), start + 1, 3);
                frame.update(out.array(), start + 8, length);
                out.putInt(start + 4, (int) frame.getValue());
            }
        }
        byte[] file = new byte[out.position()];
        out.flip().get(file);
        return file;
    }
}
