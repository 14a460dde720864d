package io.batchpersistence.benchmarks;

import io.batchpersistence.benchmarks.Candidate.Kind;
import io.batchpersistence.benchmarks.Measurement.Row;
import io.batchpersistence.benchmarks.Report.Column;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/**
 * All of {@code persist} at a glance: for each kind of labels a table with a column for each load (callers × entries)
 * and a row for each store, and below the stores what the segment store's throughput is by that of others.
 */
final class LoadTables {

    /** Which stores the segment store is compared to in a row. */
    private enum Others {
        AS_SAFE("segment store × best other that is as safe"),
        ALL("segment store × best other");

        private final String title;

        Others(String title) {
            this.title = title;
        }

        boolean include(Kind kind, boolean sync) {
            return this == ALL || kind.lessSafe(sync) == null;
        }
    }

    /** What is known of one load, with one kind of labels. */
    private static final class Cell {
        private final boolean sync;
        private final Map<String, Row> byStore = new LinkedHashMap<>();

        Cell(boolean sync) {
            this.sync = sync;
        }

        double median(String store) {
            Row row = byStore.get(store);
            return row == null ? Double.NaN : row.median(METRIC);
        }

        @Nullable
        Kind best(Others others) {
            Kind best = null;
            for (String store : byStore.keySet()) {
                Kind kind = Candidates.named(store);
                boolean measured = !Double.isNaN(median(store));
                if (measured
                        && !kind.own()
                        && others.include(kind, sync)
                        && (best == null || median(store) > median(best.name()))) {
                    best = kind;
                }
            }
            return best;
        }

        /** NaN if there is nothing to compare. */
        double ratio(Others others) {
            Kind best = best(others);
            return best == null ? Double.NaN : median(OwnStore.SEGMENT.name()) / median(best.name());
        }
    }

    private static final String METRIC = Report.BATCHES.metric();

    /** Rows by the kind of labels, then by the title of the load, both in the order of the run. */
    private final Map<String, Map<String, Cell>> byLabels = new LinkedHashMap<>();

    private final Set<String> stores = new LinkedHashSet<>();
    private final Set<String> loads = new LinkedHashSet<>();

    LoadTables(List<Row> rows) {
        for (Row row : rows) {
            if (row.scenario().equals("persist")) {
                Map<String, String> configuration = row.configuration();
                boolean sync = "always".equals(configuration.get("sync"));
                String load = configuration.get("threads") + " × " + configuration.get("entries")
                        + (sync ? "" : ", no fsync");
                loads.add(load);
                stores.add(row.store());
                byLabels.computeIfAbsent(String.valueOf(configuration.get("labels")), labels -> new LinkedHashMap<>())
                        .computeIfAbsent(load, title -> new Cell(sync))
                        .byStore
                        .put(row.store(), row);
            }
        }
    }

    String markdown() {
        StringBuilder md = new StringBuilder();
        md.append(
                "Callers × entries of a batch. \\*: when persisting returns, less is safe than in this project's stores, see "
                        + "[the stores](#the-stores); \"as safe\" leaves these out. \"Now × before\" is the median of the ratios of the "
                        + "repeats, each by the one beside it, with the least and the greatest.\n\n");
        byLabels.forEach((labels, cells) -> {
            table(md, labels, cells, Report.BATCHES, true);
            table(md, labels, cells, Report.CPU, false);
            table(md, labels, cells, Report.ALLOCATED, false);
            table(md, labels, cells, Report.FLUSHES, false);
        });
        if (byLabels.size() > 1 && stores.contains(OwnStore.SEGMENT.name())) {
            worst(md);
        }
        return md.toString();
    }

    private void table(StringBuilder md, String labels, Map<String, Cell> cells, Column column, boolean compared) {
        if (cells.values().stream()
                .flatMap(cell -> cell.byStore.values().stream())
                .allMatch(row -> row.values(column.metric()).isEmpty())) {
            return;
        }
        md.append("**")
                .append(column.title())
                .append(", labels ")
                .append(labels)
                .append("**\n\n");
        head(md);
        for (String store : stores) {
            Kind kind = Candidates.named(store);
            row(md, kind.title(), cells, cell -> {
                Row row = cell.byStore.get(store);
                String text = row == null ? "" : column.text(row.median(column.metric()));
                return text.isEmpty() || kind.own() || kind.lessSafe(cell.sync) == null ? text : text + "\\*";
            });
        }
        for (String store : stores) {
            Kind kind = Candidates.named(store);
            // Flushes of the whole device are no measure of two builds.
            if (kind.own() && stores.contains(kind.before().name()) && !column.equals(Report.FLUSHES)) {
                row(md, "**" + kind.title() + ": now × before**", cells, cell -> nowByBefore(cell, kind, column));
            }
        }
        if (compared && stores.contains(OwnStore.SEGMENT.name())) {
            for (Others others : Others.values()) {
                row(md, "**" + others.title + "**", cells, cell -> ratio(cell.ratio(others)));
                row(md, "… which is", cells, cell -> {
                    Kind best = cell.best(others);
                    return best == null ? "" : best.title();
                });
            }
        }
        md.append('\n');
    }

    private void worst(StringBuilder md) {
        md.append("**Worst of the labels ")
                .append(String.join(" and ", new TreeSet<>(byLabels.keySet())))
                .append(", batches/s**\n\n");
        head(md);
        for (Others others : Others.values()) {
            List<String> line = new ArrayList<>(List.of(others.title));
            for (String load : loads) {
                line.add(ratio(Statistics.min(byLabels.values().stream()
                        .filter(cells -> cells.containsKey(load))
                        .map(cells -> cells.get(load).ratio(others))
                        .filter(ratio -> !ratio.isNaN())
                        .toList())));
            }
            Report.line(md, line);
        }
        md.append('\n');
    }

    /** Repeats are paired: what the machine did meanwhile affects both of a pair. */
    private static String nowByBefore(Cell cell, Kind kind, Column column) {
        Row now = cell.byStore.get(kind.name());
        Row before = cell.byStore.get(kind.before().name());
        if (now == null || before == null) {
            return "";
        }
        List<Double> ratios = new ArrayList<>();
        for (int i = 0; i < Math.min(now.repeats().size(), before.repeats().size()); i++) {
            Double value = now.repeats().get(i).values().get(column.metric());
            Double older = before.repeats().get(i).values().get(column.metric());
            if (value != null && older != null && older != 0) {
                ratios.add(value / older);
            }
        }
        String median = ratio(Statistics.median(ratios));
        return ratios.size() < 2
                ? median
                : median + " (" + ratio(Statistics.min(ratios)) + "–" + ratio(Statistics.max(ratios)) + ")";
    }

    private static String ratio(double ratio) {
        return Double.isNaN(ratio) ? "" : String.format(Locale.ROOT, "%.2f", ratio);
    }

    private void head(StringBuilder md) {
        List<String> titles = new ArrayList<>(List.of("store"));
        titles.addAll(loads);
        Report.line(md, titles);
        md.append("|---|").append("---:|".repeat(loads.size())).append('\n');
    }

    private void row(StringBuilder md, String title, Map<String, Cell> cells, Text text) {
        List<String> line = new ArrayList<>(List.of(title));
        for (String load : loads) {
            Cell cell = cells.get(load);
            line.add(cell == null ? "" : text.of(cell));
        }
        if (line.stream().skip(1).anyMatch(cell -> !cell.isEmpty())) {
            Report.line(md, line);
        }
    }

    /** What a row has of a load. */
    @FunctionalInterface
    private interface Text {
        String of(Cell cell);
    }
}
