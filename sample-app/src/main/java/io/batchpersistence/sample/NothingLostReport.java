package io.batchpersistence.sample;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * Compares the shipped files with what the built-in collector has received. A line is identified by its file, its
 * number and its text, because log files contain repetitions. Reads the files with its own simple code, so as not to
 * repeat a bug of the shipper.
 *
 * @param linesIn lines in the files
 * @param emptyLines empty lines, which are not shipped
 * @param delivered distinct lines that both the files and the collector have
 * @param duplicates lines that the collector has received again
 * @param missing lines that the collector does not have
 * @param unexpected lines that the collector has but the files don't
 */
record NothingLostReport(
        long linesIn, long emptyLines, long delivered, long duplicates, Set<String> missing, Set<String> unexpected) {

    /** The maximum number of missing or unexpected lines that are shown. */
    private static final int SHOWN = 10;

    static NothingLostReport of(Path received, List<Path> shipped) throws IOException {
        Set<String> expected = new LinkedHashSet<>();
        long lines = 0;
        long empty = 0;
        for (Path file : shipped) {
            String path = file.toAbsolutePath().normalize().toString();
            String[] all = new String(Files.readAllBytes(file), StandardCharsets.UTF_8).split("\n", -1);
            for (int i = 0; i < all.length; i++) {
                String line = all[i].endsWith("\r") ? all[i].substring(0, all[i].length() - 1) : all[i];
                if (i == all.length - 1 && all[i].isEmpty()) {
                    // The text after the last line end is not a line.
                    continue;
                }
                lines++;
                if (line.isEmpty()) {
                    empty++;
                } else {
                    expected.add(path + ":" + (i + 1) + "\t" + line);
                }
            }
        }
        Set<String> missing = new LinkedHashSet<>(expected);
        Set<String> seen = new HashSet<>();
        Set<String> unexpected = new LinkedHashSet<>();
        long[] duplicates = {0};
        BuiltInCollector.readAll(received, entry -> {
            String line = entry.sourceId() + "\t" + entry.message();
            if (!seen.add(line)) {
                duplicates[0]++;
            } else if (expected.contains(line)) {
                missing.remove(line);
            } else {
                unexpected.add(line);
            }
        });
        return new NothingLostReport(lines, empty, seen.size() - unexpected.size(), duplicates[0], missing, unexpected);
    }

    boolean isNothingLost() {
        return missing.isEmpty() && unexpected.isEmpty();
    }

    /**
     * Compares, prints the result, and returns the exit status.
     *
     * @param received the collector's file
     * @param shipped the shipped files
     * @param out where to print
     * @return 0: nothing lost; 1: lines are missing, or were received but never shipped; 2: could not be compared
     */
    static int print(Path received, List<Path> shipped, PrintStream out) {
        try {
            NothingLostReport report = of(received, shipped);
            out.printf(Locale.ROOT, "lines in:                 %,9d%n", report.linesIn());
            if (report.emptyLines() > 0) {
                out.printf(Locale.ROOT, "empty lines, not shipped: %,9d%n", report.emptyLines());
            }
            out.printf(Locale.ROOT, "distinct lines delivered: %,9d%n", report.delivered());
            out.printf(Locale.ROOT, "duplicates:               %,9d   (allowed: at least once)%n", report.duplicates());
            out.printf(
                    Locale.ROOT,
                    "missing:                  %,9d%n",
                    report.missing().size());
            report.missing().stream().limit(SHOWN).forEach(line -> out.println("  missing: " + line));
            if (!report.unexpected().isEmpty()) {
                out.printf(
                        Locale.ROOT,
                        "never shipped:            %,9d%n",
                        report.unexpected().size());
                report.unexpected().stream().limit(SHOWN).forEach(line -> out.println("  never shipped: " + line));
            }
            return report.isNothingLost() ? 0 : 1;
        } catch (IOException e) {
            out.println("could not compare: " + e);
            return 2;
        }
    }
}
