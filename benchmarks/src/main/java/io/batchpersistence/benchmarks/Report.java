package io.batchpersistence.benchmarks;

import io.batchpersistence.benchmarks.Candidate.Kind;
import io.batchpersistence.benchmarks.Candidate.Limit;
import io.batchpersistence.benchmarks.Measurement.Row;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/** Turns measurements into {@code results.md}, {@code results.csv} and charts. */
final class Report {

    /** A column of a table: a metric, its title, and the divisor that makes its values readable. */
    record Column(String metric, String title, double divisor, int decimals, boolean spread) {

        Column(String metric, String title, double divisor, int decimals) {
            this(metric, title, divisor, decimals, false);
        }

        /** The same, with the least and the greatest value of several repeats. */
        Column withSpread() {
            return new Column(metric, title, divisor, decimals, true);
        }

        String text(double value) {
            return Double.isNaN(value) ? "" : String.format(Locale.ROOT, "%,." + decimals + "f", value / divisor);
        }

        String text(Row row) {
            List<Double> values = row.values(metric);
            String median = text(row.median(metric));
            return spread && values.size() > 1
                    ? median + " (" + text(Statistics.min(values)) + "–" + text(Statistics.max(values)) + ")"
                    : median;
        }
    }

    /** What a row is compared to. */
    private enum Comparison {
        BASELINE("× plain append"),
        PEER("× best peer"),
        MARKING("× best peer that marks"),
        SEGMENT("× segment store");

        private final String title;

        Comparison(String title) {
            this.title = title;
        }

        boolean isTo(Kind kind) {
            boolean peer = !kind.own() && !kind.equals(Candidates.BASELINE);
            return switch (this) {
                case BASELINE -> kind.equals(Candidates.BASELINE);
                case PEER -> peer;
                case MARKING -> peer && !kind.has(Limit.NO_MARK);
                case SEGMENT -> kind.equals(OwnStore.SEGMENT);
            };
        }
    }

    private static final double MILLI = 1e3;
    private static final Column ENTRIES = new Column("entries_per_s", "entries/s", 1, 0);
    static final Column BATCHES = new Column("batches_per_s", "batches/s", 1, 0);
    static final Column CPU = new Column("cpu_us", "CPU µs/batch", 1, 1);
    static final Column ALLOCATED = new Column("allocated_bytes", "allocated bytes/batch", 1, 0);
    static final Column FLUSHES = new Column("flushes_per_batch", "device flushes/batch", 1, 2);
    private static final Column P50 = new Column("p50_us", "p50 ms", MILLI, 2);
    private static final Column P99 = new Column("p99_us", "p99 ms", MILLI, 2);
    private static final Column P999 = new Column("p999_us", "p99.9 ms", MILLI, 2);
    private static final Column MAX = new Column("max_us", "max ms", MILLI, 1);

    /** A kind of table. */
    private record Table(String scenario, String title, String explanation, boolean compared, List<Column> columns) {}

    private static final List<Table> TABLES = List.of(
            new Table(
                    "persist",
                    "Persist and mark",
                    "Each caller persists a batch, waits until the store says it is safe, marks it delivered, and goes on with "
                            + "the next. The latency is that of persisting alone.",
                    true,
                    List.of(
                            ENTRIES,
                            BATCHES.withSpread(),
                            P50,
                            P99,
                            P999,
                            CPU.withSpread(),
                            ALLOCATED.withSpread(),
                            new Column("disk_per_raw", "disk/raw", 1, 2).withSpread(),
                            FLUSHES)),
            new Table(
                    "async",
                    "Appends under way",
                    "One thread: it waits for each append, or has up to 256 of them under way.",
                    false,
                    List.of(ENTRIES, BATCHES)),
            new Table(
                    "reopen",
                    "Reopen",
                    "A fresh process opens what another one left: until what is pending is known, until the first batch is "
                            + "read, and the heap this took, after a collection. The files are in the page cache.",
                    false,
                    List.of(
                            new Column("known_s", "pending known s", 1, 3),
                            new Column("first_read_s", "first read s", 1, 3),
                            new Column("heap_mb", "heap MB", 1, 1))),
            new Table(
                    "drain",
                    "Drain",
                    "A fresh process opens what another one left (which counts, since some read everything then), and one thread "
                            + "reads every batch back as entries and marks it.",
                    true,
                    List.of(ENTRIES, BATCHES, new Column("heap_mb", "heap MB", 1, 1))),
            new Table(
                    "recover",
                    "Recover",
                    "A fresh process opens what another one left (which counts), and several workers take every batch, decode it and "
                            + "mark it, no two of them the same.",
                    true,
                    List.of(ENTRIES, BATCHES)),
            new Table(
                    "scale",
                    "A large backlog in a small heap",
                    "The latency is that of persisting with fsync right after opening, one thread.",
                    false,
                    List.of(
                            new Column("open_s", "open s", 1, 2),
                            new Column("heap_bytes_per_batch", "heap bytes/batch", 1, 0),
                            new Column("disk_bytes_per_batch", "disk bytes/batch", 1, 0),
                            P50,
                            P99,
                            MAX,
                            new Column("drain_entries_per_s", "drain entries/s", 1, 0),
                            new Column("drain_heap_mb", "drain heap MB", 1, 1))),
            new Table(
                    "growth",
                    "Latency while the backlog grows",
                    "One thread persists with fsync, with that many batches pending; the store was just opened.",
                    false,
                    List.of(P50, P99, P999, MAX)),
            new Table(
                    "steady",
                    "Steady load",
                    "Writers at a fixed rate, with fsync; one batch in a hundred is never marked. Latency is measured from when "
                            + "a batch was due. Percentiles are medians over the windows; \"worst\" is the worst window. "
                            + "Amplification is bytes on disk by bytes of pending batches in the store's own encoding.",
                    false,
                    List.of(
                            new Column("can_batches_per_s", "can batches/s", 1, 0),
                            new Column("offered_batches_per_s", "offered", 1, 0),
                            new Column("achieved_batches_per_s", "achieved", 1, 0),
                            P50,
                            P99,
                            P999,
                            new Column("worst_p999_us", "worst p99.9 ms", MILLI, 1),
                            MAX,
                            new Column("disk_mb", "disk MB at the end", 1, 1),
                            new Column("live_mb", "live MB", 1, 1),
                            new Column("amplification", "amplification", 1, 2),
                            new Column("worst_amplification", "worst in 2nd half", 1, 2),
                            new Column("worst_heap_mb", "heap MB", 1, 0))));

    private final List<Row> rows;
    private final Map<String, String> machine;
    private final String description;

    Report(List<Measurement> measurements, Map<String, String> machine, String description) {
        this.rows = Row.of(measurements);
        this.machine = new LinkedHashMap<>(machine);
        this.description = description;
    }

    void write(Path directory) throws IOException {
        Files.createDirectories(directory);
        Files.writeString(directory.resolve("results.csv"), csv());
        List<String> charts = new Charts(rows).write(directory);
        Files.writeString(directory.resolve("results.md"), markdown(charts));
    }

    /** Returns one line for the console. */
    static String brief(String scenario, Map<String, Double> values) {
        List<Column> columns = TABLES.stream()
                .filter(table -> table.scenario().equals(scenario))
                .findFirst()
                .map(Table::columns)
                .orElse(List.of(new Column("disk_per_raw", "disk/raw", 1, 3)));
        return columns.stream()
                .filter(column -> values.containsKey(column.metric()))
                .map(column -> column.title() + " " + column.text(values.getOrDefault(column.metric(), Double.NaN)))
                .collect(Collectors.joining(", "));
    }

    // ---- results.csv ----------------------------------------------------------------------------

    /** Returns one line per metric of a store in a configuration. */
    private String csv() {
        StringBuilder csv = new StringBuilder("scenario,store,configuration,metric,median,min,max,repeats,failure\n");
        for (Row row : rows) {
            String configuration = row.configuration().entrySet().stream()
                    .map(entry -> entry.getKey() + "=" + entry.getValue().replace(",", ""))
                    .collect(Collectors.joining(" "));
            Set<String> metrics = new LinkedHashSet<>();
            row.repeats().forEach(m -> metrics.addAll(m.values().keySet()));
            String head = row.scenario() + "," + row.store() + "," + configuration + ",";
            for (String metric : metrics) {
                List<Double> values = row.values(metric);
                csv.append(head).append(metric).append(',').append(number(row.median(metric)));
                csv.append(',')
                        .append(number(Statistics.min(values)))
                        .append(',')
                        .append(number(Statistics.max(values)));
                csv.append(',').append(values.size()).append(",\n");
            }
            String failure = row.failure();
            if (failure != null) {
                csv.append(head)
                        .append(",,,,0,\"")
                        .append(failure.replace("\"", "\"\""))
                        .append("\"\n");
            }
        }
        return csv.toString();
    }

    private static String number(double value) {
        return String.format(Locale.ROOT, "%.6g", value);
    }

    // ---- results.md -----------------------------------------------------------------------------

    private String markdown(List<String> charts) {
        StringBuilder md = new StringBuilder("# Results\n\n");
        md.append(description)
                .append(
                        ". Each number is the median of the repeats, in brackets are their least and greatest; those of all are in ");
        md.append("[results.csv](results.csv).\n\n");
        machine.forEach((name, value) ->
                md.append("- ").append(name).append(": ").append(value).append('\n'));
        md.append('\n');
        for (String chart : charts) {
            md.append(chart.endsWith(".svg") ? "![" + chart + "](" + chart + ")" : chart)
                    .append("\n\n");
        }
        for (Table table : TABLES) {
            Map<Map<String, String>, List<Row>> byConfiguration = rows.stream()
                    .filter(row -> row.scenario().equals(table.scenario()))
                    .collect(Collectors.groupingBy(Row::configuration, LinkedHashMap::new, Collectors.toList()));
            if (!byConfiguration.isEmpty()) {
                if (table.scenario().equals("persist")) {
                    md.append(new LoadTables(rows).markdown());
                }
                md.append("## ")
                        .append(table.title())
                        .append("\n\n")
                        .append(table.explanation())
                        .append("\n\n");
                byConfiguration.forEach((configuration, some) -> table(md, table, configuration, some));
            }
        }
        notes(md);
        return md.toString();
    }

    private void table(StringBuilder md, Table table, Map<String, String> configuration, List<Row> some) {
        md.append("**")
                .append(configuration.entrySet().stream()
                        .map(entry -> entry.getKey() + " " + entry.getValue())
                        .collect(Collectors.joining(", ")))
                .append("**\n\n");
        Map<Comparison, @Nullable Row> compared = new EnumMap<>(Comparison.class);
        boolean inDatabase = best(some, kind -> kind.has(Limit.NEEDS_DATABASE)) != null;
        if (table.compared()) {
            for (Comparison comparison : Comparison.values()) {
                if (comparison != Comparison.SEGMENT || inDatabase) {
                    compared.put(comparison, best(some, comparison::isTo));
                }
            }
        }

        boolean sync = "always".equals(configuration.get("sync"));
        boolean guarantees = configuration.containsKey("sync") && table.compared();
        List<String> titles = new ArrayList<>(List.of("store"));
        if (guarantees) {
            titles.add("as safe");
        }
        table.columns().forEach(column -> titles.add(column.title()));
        compared.keySet().forEach(comparison -> titles.add(comparison.title));
        line(md, titles);
        md.append("|---|").append("---:|".repeat(titles.size() - 1)).append('\n');
        for (Row row : some) {
            Kind kind = Candidates.named(row.store());
            List<String> cells = new ArrayList<>(List.of(kind.title()));
            if (guarantees) {
                cells.add(kind.own() ? "" : kind.lessSafe(sync) == null ? "yes" : "no");
            }
            String failure = row.failure();
            if (row.values(table.columns().get(0).metric()).isEmpty()) {
                cells.add(failure == null ? "" : failure);
                while (cells.size() < titles.size()) {
                    cells.add("");
                }
                line(md, cells);
                continue;
            }
            for (Column column : table.columns()) {
                cells.add(column.metric().equals("disk_per_raw") ? sizeOnDisk(row, column) : column.text(row));
            }
            compared.values().forEach(other -> cells.add(ratio(row, other)));
            // Some repeats failed and some did not.
            if (failure != null) {
                cells.set(0, cells.get(0) + " (of " + row.repeats().size() + " repeats, one " + failure + ")");
            }
            line(md, cells);
        }
        md.append('\n');
        Row peer = compared.get(Comparison.PEER);
        Row marking = compared.get(Comparison.MARKING);
        if (peer != null && marking != null) {
            md.append("Best peer: ")
                    .append(Candidates.named(peer.store()).title())
                    .append("; best that marks: ")
                    .append(Candidates.named(marking.store()).title())
                    .append(".\n\n");
        }
    }

    private static @Nullable Row best(List<Row> some, Predicate<Kind> which) {
        Row best = null;
        for (Row row : some) {
            double speed = row.median(ENTRIES.metric());
            if (which.test(Candidates.named(row.store()))
                    && !Double.isNaN(speed)
                    && (best == null || speed > best.median(ENTRIES.metric()))) {
                best = row;
            }
        }
        return best;
    }

    private static String ratio(Row row, @Nullable Row other) {
        return other == null
                ? ""
                : String.format(Locale.ROOT, "%.2f", row.median(ENTRIES.metric()) / other.median(ENTRIES.metric()));
    }

    /** The size on disk, which is measured separately with the same batches. */
    private String sizeOnDisk(Row row, Column column) {
        return rows.stream()
                .filter(size -> size.scenario().equals("size")
                        && size.store().equals(row.store())
                        && Stream.of("entries", "labels")
                                .allMatch(name -> Objects.equals(
                                        size.configuration().get(name),
                                        row.configuration().get(name))))
                .findFirst()
                .map(size ->
                        size.values(column.metric()).isEmpty() ? String.valueOf(size.failure()) : column.text(size))
                .orElse("");
    }

    static void line(StringBuilder md, List<String> cells) {
        cells.forEach(cell -> md.append("| ").append(cell.replace("|", "\\|")).append(' '));
        md.append("|\n");
    }

    private void notes(StringBuilder md) {
        md.append("## The stores\n\n");
        Set<String> measured = rows.stream().map(Row::store).collect(Collectors.toCollection(LinkedHashSet::new));
        for (String name : measured) {
            Kind kind = Candidates.named(name);
            md.append("**").append(kind.title()).append("** (`").append(name).append("`)\n\n");
            md.append("- configuration: ").append(kind.configuration()).append('\n');
            md.append("- guarantee: ").append(kind.guarantee()).append('\n');
            kind.limits().entrySet().stream()
                    .sorted(Map.Entry.comparingByKey())
                    .forEach(limit ->
                            md.append("- limit: ").append(limit.getValue()).append('\n'));
            md.append('\n');
        }
    }
}
