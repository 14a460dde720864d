package io.batchpersistence.benchmarks;

import com.sun.management.OperatingSystemMXBean;
import com.sun.management.ThreadMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** The machine on which a measurement was made, as far as Linux exposes it. */
final class Machine {

    // Index of a field of /proc/diskstats, see Documentation/admin-guide/iostats.rst.
    private static final int FLUSHES = 18;

    private Machine() {}

    /** The properties that are needed to compare measurements. */
    static Map<String, String> describe(Path directory) throws IOException {
        Map<String, String> machine = new LinkedHashMap<>();
        machine.put("CPU", cpu() + ", " + Runtime.getRuntime().availableProcessors() + " cores");
        machine.put("memory", value("/proc/meminfo", "MemTotal"));
        machine.put("kernel", System.getProperty("os.name") + " " + System.getProperty("os.version"));
        FileStore store = Files.getFileStore(directory);
        machine.put("file system", store.type() + " on " + store.name());
        machine.put("JDK", System.getProperty("java.vm.name") + " " + Runtime.version());
        machine.put("date", LocalDate.now(ZoneOffset.UTC).toString());
        return machine;
    }

    private static String cpu() {
        return value("/proc/cpuinfo", "model name");
    }

    private static String value(String file, String name) {
        try {
            return Files.readAllLines(Path.of(file)).stream()
                    .filter(line -> line.startsWith(name))
                    .map(line -> line.substring(line.indexOf(':') + 1).strip())
                    .findFirst()
                    .orElse("unknown");
        } catch (IOException e) {
            return "unknown";
        }
    }

    /** CPU time of this process. */
    static long processCpuNanos() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** Bytes of heap that the calling thread has allocated. */
    static long allocatedBytes() {
        return ((ThreadMXBean) ManagementFactory.getThreadMXBean())
                .getThreadAllocatedBytes(Thread.currentThread().getId());
    }

    /** How often the device of a directory was told to flush its cache; negative if unknown. */
    static long deviceFlushes(Path directory) throws IOException {
        String device = Files.getFileStore(directory).name();
        String name = device.substring(device.lastIndexOf('/') + 1);
        Path statistics = Path.of("/proc/diskstats");
        if (!Files.isReadable(statistics)) {
            return -1;
        }
        for (String line : Files.readAllLines(statistics)) {
            List<String> fields = List.of(line.strip().split("\\s+"));
            if (fields.size() > FLUSHES && fields.get(2).equals(name)) {
                return Long.parseLong(fields.get(FLUSHES));
            }
        }
        return -1;
    }

    /** Size of the blocks that the files below a directory occupy, in bytes; negative if unknown. */
    static long allocatedBytes(Path directory) throws IOException {
        Process du;
        try {
            du = new ProcessBuilder("du", "-s", "--block-size=1", directory.toString())
                    .redirectError(ProcessBuilder.Redirect.DISCARD)
                    .start();
        } catch (IOException e) {
            return -1;
        }
        try {
            String out = new String(du.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            // Ignore the exit code: du reports a file that was deleted in the meantime, but that is not a failure.
            if (!du.waitFor(1, TimeUnit.MINUTES) || !out.matches("(?s)\\d+\\s.*")) {
                return -1;
            }
            return Long.parseLong(out.replaceFirst("(?s)\\s.*", ""));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return -1;
        }
    }
}
