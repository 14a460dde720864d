package io.batchpersistence.internal.disk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIOException;

import io.batchpersistence.internal.disk.Disk.DiskFile;
import io.batchpersistence.internal.disk.FaultyDisk.Operation;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Random;
import org.junit.jupiter.api.Test;

/**
 * The simulated disk must match a real file system. Otherwise the crash tests report false losses or miss real ones.
 */
class MemoryDiskTest {

    private static final Path DIRECTORY = Path.of("/store");
    private static final Path FILE = DIRECTORY.resolve("file");

    private final MemoryDisk memory = new MemoryDisk();
    private final FaultyDisk disk = new FaultyDisk(memory);

    @Test
    void a_force_that_failed_has_dropped_what_was_written() throws IOException {
        byte[] bytes = bytes("x".repeat(2_000));
        try (DiskFile file = created()) {
            file.write(0, bytes, 0, bytes.length);
            failForce(file);
            file.force();
        }
        assertThat(memory.get(FILE)).isEqualTo(bytes);
        memory.powerCuts(
                20,
                new Random(1),
                left -> assertThat(new String(left.get(FILE), StandardCharsets.UTF_8))
                        .doesNotContain("x"));
    }

    /**
     * A failed force does not drop the file size, which is metadata. Data written again within that size is durable.
     */
    @Test
    void what_is_written_again_after_a_force_that_failed_is_durable() throws IOException {
        byte[] bytes = bytes("x".repeat(2_000));
        try (DiskFile file = created()) {
            file.write(0, bytes, 0, bytes.length);
            failForce(file);
            file.write(0, bytes, 0, bytes.length);
            file.force();
        }
        memory.powerCuts(
                20,
                new Random(1),
                left -> assertThat(left.get(FILE)).as("after a power cut").isEqualTo(bytes));
    }

    private DiskFile created() throws IOException {
        disk.createDirectories(DIRECTORY);
        DiskFile file = disk.create(FILE);
        disk.forceDirectory(DIRECTORY);
        return file;
    }

    private void failForce(DiskFile file) {
        disk.fail(Operation.FORCE, "file", "Input/output error").times(1);
        assertThatIOException().isThrownBy(file::force);
        disk.heal();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
