package io.batchpersistence.benchmarks;

import io.batchpersistence.LogEntry;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/**
 * Log lines, as entries in batches. Identical for every store, every repeat and every process: random values have a
 * fixed seed.
 */
final class Corpus {

    private static final Instant START = Instant.parse("2026-01-05T08:00:00Z");
    private static final int GENERATED_LINES = 2_000;

    private record Source(String name, List<LogEntry> entries) {}

    private final List<Source> sources;

    private Corpus(List<Source> sources) {
        this.sources = sources;
    }

    /**
     * Reads the {@code *.log} files of a directory, or generates lines.
     *
     * @param directory the directory; {@code null} to generate lines
     * @param manyLabels whether neighbouring lines have different labels, as those of a request each, or all lines of a
     *     source the same
     */
    static Corpus of(@Nullable Path directory, boolean manyLabels) throws IOException {
        List<Source> sources = new ArrayList<>();
        if (directory == null) {
            for (Generator generator : Generator.values()) {
                sources.add(source(generator.name().toLowerCase(Locale.ROOT), generator.lines(), manyLabels));
            }
            return new Corpus(sources);
        }
        List<Path> files;
        try (Stream<Path> list = Files.list(directory)) {
            files = list.filter(file -> file.toString().endsWith(".log"))
                    .sorted()
                    .toList();
        }
        for (Path file : files) {
            String text = new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
            List<String> lines = text.lines().filter(line -> !line.isBlank()).toList();
            if (!lines.isEmpty()) {
                sources.add(
                        source(String.valueOf(file.getFileName()).replaceAll("(_2k)?\\.log$", ""), lines, manyLabels));
            }
        }
        if (sources.isEmpty()) {
            throw new IOException("there is no *.log file with lines in " + directory);
        }
        return new Corpus(sources);
    }

    private static Source source(String name, List<String> lines, boolean manyLabels) {
        Random random = new Random(name.hashCode());
        String app = name.toLowerCase(Locale.ROOT);
        String host = "node-" + (1 + random.nextInt(40));
        String file = "/var/log/" + app + ".log:";
        Instant time = START;
        List<LogEntry> entries = new ArrayList<>(lines.size());
        for (String line : lines) {
            // Bursts and pauses, with microseconds, as log frameworks write them.
            time = time.plus((long) Math.exp(random.nextDouble() * 14), ChronoUnit.MICROS);
            LogEntry.Builder entry = LogEntry.builder(time, line)
                    .level(level(line))
                    .label("app", app)
                    .source("file", file + (entries.size() + 1));
            if (manyLabels) {
                entry.label("host", "node-" + random.nextInt(40))
                        .label("pod", app + "-" + random.nextInt(20))
                        .label("thread", "exec-" + random.nextInt(16));
            } else {
                entry.label("host", host);
            }
            entries.add(entry.build());
        }
        return new Source(name, entries);
    }

    private static String level(String line) {
        String start = line.substring(0, Math.min(line.length(), 80)).toUpperCase(Locale.ROOT);
        for (String level : List.of("FATAL", "ERROR", "WARN", "NOTICE", "DEBUG", "TRACE")) {
            if (start.contains(level)) {
                return level;
            }
        }
        return "INFO";
    }

    /**
     * Groups neighbouring lines into batches, each from one source, with the sources in turn, as a shipper reads files.
     *
     * @param entries number of entries per batch
     */
    List<List<LogEntry>> batches(int entries) {
        List<List<LogEntry>> batches = new ArrayList<>();
        int rounds = sources.stream()
                .mapToInt(source -> Math.max(1, source.entries().size() / entries))
                .max()
                .orElse(0);
        for (int round = 0; round < rounds; round++) {
            for (Source source : sources) {
                List<LogEntry> batch = new ArrayList<>(entries);
                int size = source.entries().size();
                for (int i = 0; i < entries; i++) {
                    batch.add(source.entries().get((int) (((long) round * entries + i) % size)));
                }
                batches.add(List.copyOf(batch));
            }
        }
        return batches;
    }

    /** The bytes of the messages alone, to which all sizes on disk are compared. */
    static long rawBytes(List<LogEntry> batch) {
        long bytes = 0;
        for (LogEntry entry : batch) {
            bytes += entry.message().getBytes(StandardCharsets.UTF_8).length;
        }
        return bytes;
    }

    /**
     * Generates lines of common shapes: a few templates each, with ids, addresses, numbers and times that vary as in
     * real logs.
     */
    private enum Generator {
        SHOP {
            @Override
            String line(Random random, int i) {
                String head = String.format(
                        Locale.ROOT,
                        "2026-01-05 %02d:%02d:%02d,%03d %s [http-nio-8080-exec-%d] ",
                        8 + i / 3600 % 12,
                        i / 60 % 60,
                        i % 60,
                        random.nextInt(1000),
                        random.nextInt(20) == 0 ? "WARN " : "INFO ",
                        1 + random.nextInt(16));
                return head
                        + switch (random.nextInt(5)) {
                            case 0 ->
                                "c.e.shop.OrderController - order " + hex(random, 16) + " from customer "
                                        + random.nextInt(90_000) + " accepted, " + (1 + random.nextInt(9)) + " items, "
                                        + random.nextInt(500) + "." + (10 + random.nextInt(90)) + " EUR";
                            case 1 ->
                                "c.e.shop.PaymentClient - payment " + hex(random, 12) + " authorized in "
                                        + (20 + random.nextInt(900)) + " ms";
                            case 2 ->
                                "o.h.engine.jdbc.spi.SqlExceptionHelper - lock wait of " + random.nextInt(5_000)
                                        + " ms on inventory row " + random.nextInt(40_000);
                            case 3 ->
                                "c.e.shop.StockService - reserved " + (1 + random.nextInt(9)) + " of article "
                                        + (1_000_000 + random.nextInt(400_000)) + ", " + random.nextInt(300) + " left";
                            default ->
                                "c.e.shop.SessionFilter - session " + hex(random, 32) + " of " + ip(random)
                                        + " resumed";
                        };
            }
        },
        GATEWAY {
            @Override
            String line(Random random, int i) {
                String[] paths = {
                    "/api/orders/" + random.nextInt(90_000),
                    "/static/app." + hex(random, 8) + ".js",
                    "/api/articles?page=" + random.nextInt(40),
                    "/login",
                    "/health"
                };
                return ip(random) + " - - [05/Jan/2026:"
                        + String.format(Locale.ROOT, "%02d:%02d:%02d", 8 + i / 3600 % 12, i / 60 % 60, i % 60)
                        + " +0000] \"" + (random.nextInt(4) == 0 ? "POST " : "GET ")
                        + paths[random.nextInt(paths.length)]
                        + " HTTP/1.1\" " + (random.nextInt(30) == 0 ? 502 : random.nextInt(12) == 0 ? 404 : 200) + " "
                        + random.nextInt(60_000) + " \"-\" \"Mozilla/5.0 (X11; Linux x86_64; rv:"
                        + (120 + random.nextInt(20)) + ".0) Gecko/20100101 Firefox\" rt=0."
                        + (100 + random.nextInt(900));
            }
        },
        SYSTEM {
            @Override
            String line(Random random, int i) {
                String head = String.format(
                        Locale.ROOT, "Jan  5 %02d:%02d:%02d node-7 ", 8 + i / 3600 % 12, i / 60 % 60, i % 60);
                return head
                        + switch (random.nextInt(4)) {
                            case 0 ->
                                "sshd[" + (1000 + random.nextInt(30_000)) + "]: Failed password for invalid user "
                                        + List.of("admin", "oracle", "test", "guest")
                                                .get(random.nextInt(4)) + " from "
                                        + ip(random) + " port " + (1024 + random.nextInt(60_000)) + " ssh2";
                            case 1 ->
                                "kernel: [" + (90_000 + i) + "." + (100_000 + random.nextInt(900_000))
                                        + "] audit: type=1400 pid=" + random.nextInt(32_768) + " comm=\"java\"";
                            case 2 -> "systemd[1]: Started Session " + (100 + i) + " of User deploy.";
                            default ->
                                "CRON[" + (1000 + random.nextInt(30_000)) + "]: (root) CMD (/usr/lib/sysstat/sa1 1 1)";
                        };
            }
        };

        abstract String line(Random random, int i);

        List<String> lines() {
            Random random = new Random(name().hashCode());
            List<String> lines = new ArrayList<>(GENERATED_LINES);
            for (int i = 0; i < GENERATED_LINES; i++) {
                lines.add(line(random, i));
            }
            return lines;
        }

        static String hex(Random random, int digits) {
            StringBuilder hex = new StringBuilder(digits);
            for (int i = 0; i < digits; i++) {
                hex.append(Character.forDigit(random.nextInt(16), 16));
            }
            return hex.toString();
        }

        static String ip(Random random) {
            return "10." + random.nextInt(4) + "." + random.nextInt(256) + "." + (1 + random.nextInt(254));
        }
    }
}
