package io.batchpersistence.benchmarks;

import io.batchpersistence.benchmarks.Measurement.Row;
import java.awt.Color;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import org.knowm.xchart.CategoryChart;
import org.knowm.xchart.CategoryChartBuilder;
import org.knowm.xchart.VectorGraphicsEncoder;
import org.knowm.xchart.VectorGraphicsEncoder.VectorGraphicsFormat;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.internal.chartpart.Chart;
import org.knowm.xchart.style.Styler.LegendPosition;
import org.knowm.xchart.style.markers.SeriesMarkers;

/** The two charts. */
final class Charts {

    private static final int WIDTH = 1100;
    private static final int HEIGHT = 600;

    private final List<Row> rows;

    Charts(List<Row> rows) {
        this.rows = rows;
    }

    /** Writes the charts for which there are measurements; returns their names, or why they could not be drawn. */
    List<String> write(Path directory) throws IOException {
        List<String> written = new ArrayList<>();
        try {
            save(persist(), directory, "persist.svg", written);
            save(steady(directory), directory, "steady.svg", written);
        } catch (LinkageError | InternalError e) {
            // A JDK without fonts.
            written.add("The charts could not be drawn on this machine: " + e);
        }
        return written;
    }

    private static void save(@Nullable Chart<?, ?> chart, Path directory, String name, List<String> written)
            throws IOException {
        if (chart != null) {
            VectorGraphicsEncoder.saveVectorGraphic(
                    chart, directory.resolve(name).toString(), VectorGraphicsFormat.SVG);
            written.add(name);
        }
    }

    /**
     * Entries per second by store; with fsync if measured, with 100 entries per batch if measured; one bar per number
     * of threads.
     */
    @Nullable
    CategoryChart persist() {
        List<Row> persist = preferring("entries", "100", preferring("sync", "always", scenario("persist")));
        Map<Integer, Map<String, Double>> byThreads = new TreeMap<>();
        for (Row row : persist) {
            byThreads
                    .computeIfAbsent(Integer.valueOf(row.configuration().get("threads")), threads -> new TreeMap<>())
                    .put(row.store(), row.median("entries_per_s"));
        }
        List<String> stores = Candidates.PERSISTING.stream()
                .filter(kind -> persist.stream()
                        .anyMatch(row -> row.store().equals(kind.name()) && !Double.isNaN(row.median("entries_per_s"))))
                .map(Candidate.Kind::name)
                .toList();
        if (stores.isEmpty()) {
            return null;
        }
        Map<String, String> configuration = persist.get(0).configuration();
        CategoryChart chart = new CategoryChartBuilder()
                .width(WIDTH)
                .height(HEIGHT)
                .title("Persist and mark, "
                        + ("always".equals(configuration.get("sync")) ? "with fsync" : "without fsync") + ", "
                        + configuration.get("entries") + " entries a batch (more is better)")
                .xAxisTitle("store")
                .yAxisTitle("entries a second")
                .build();
        style(chart);
        chart.getStyler().setXAxisLabelRotation(30);
        chart.getStyler().setYAxisMin(0d);
        chart.getStyler().setYAxisDecimalPattern("#,##0");
        byThreads.forEach((threads, byStore) -> {
            if (threads == 1 || threads == 8 || byThreads.size() == 1) {
                List<Double> bars = stores.stream()
                        .map(store -> byStore.getOrDefault(store, 0d))
                        .map(bar -> bar.isNaN() ? 0d : bar)
                        .toList();
                chart.addSeries(threads + (threads == 1 ? " thread" : " threads"), stores, bars);
            }
        });
        return chart;
    }

    private List<Row> scenario(String name) {
        return rows.stream().filter(row -> row.scenario().equals(name)).toList();
    }

    private static List<Row> preferring(String parameter, String value, List<Row> some) {
        List<Row> preferred = some.stream()
                .filter(row -> value.equals(row.configuration().get(parameter)))
                .toList();
        if (!preferred.isEmpty() || some.isEmpty()) {
            return preferred;
        }
        String first = some.get(0).configuration().get(parameter);
        return some.stream()
                .filter(row -> String.valueOf(first).equals(row.configuration().get(parameter)))
                .toList();
    }

    /** The 99.9th percentile over time, from the files of windows that the steady runs have written. */
    @Nullable
    XYChart steady(Path directory) throws IOException {
        XYChart chart = new XYChartBuilder()
                .width(WIDTH)
                .height(HEIGHT)
                .title("Steady load with fsync: 99.9th percentile of the persist latency (less is better)")
                .xAxisTitle("seconds")
                .yAxisTitle("milliseconds (logarithmic)")
                .build();
        style(chart);
        chart.getStyler().setYAxisLogarithmic(true);
        for (Row row : scenario("steady")) {
            Path file = directory.resolve("steady-" + row.store() + ".csv");
            if (row.failure() != null || !Files.exists(file)) {
                continue;
            }
            List<Double> seconds = new ArrayList<>();
            List<Double> millis = new ArrayList<>();
            for (String line :
                    Files.readAllLines(file).subList(1, Files.readAllLines(file).size())) {
                List<String> cells = List.of(line.split(","));
                double p999 = Double.parseDouble(cells.get(4)) / 1e3;
                if (p999 > 0) {
                    seconds.add(Double.valueOf(cells.get(0)));
                    millis.add(p999);
                }
            }
            if (!seconds.isEmpty()) {
                chart.addSeries(Candidates.named(row.store()).title(), seconds, millis)
                        .setMarker(SeriesMarkers.CIRCLE);
            }
        }
        if (chart.getSeriesMap().isEmpty()) {
            return null;
        }
        return chart;
    }

    private static void style(Chart<?, ?> chart) {
        chart.getStyler().setChartBackgroundColor(Color.WHITE);
        chart.getStyler().setLegendPosition(LegendPosition.InsideNE);
    }
}
