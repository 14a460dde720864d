package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.BatchSender;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.spring.BatchDelivery;
import io.batchpersistence.spring.CollectorType;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tag;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.springframework.boot.Banner;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.yaml.snakeyaml.Yaml;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * Compares the meters that the documents, the dashboard and the alert rules name with those of a running application.
 */
class MetricsTest {

    private static final List<LogEntry> ENTRIES =
            List.of(LogEntry.of(Instant.EPOCH, "INFO", "one"), LogEntry.of(Instant.EPOCH, "INFO", "two"));
    private static final Path DOCS = Path.of("..", "docs");

    /** Labels that are reserved for scraping, or created by functions. */
    private static final Set<String> FOREIGN_LABELS = Set.of("job", "instance", "severity");

    @TempDir
    static Path directory;

    private static final CountDownLatch RELEASE = new CountDownLatch(1);
    private static ConfigurableApplicationContext context;
    private static MeterRegistry registry;
    /** By name, each with the labels of its series. */
    private static final Map<String, List<Map<String, String>>> SCRAPED = new TreeMap<>();

    @BeforeAll
    static void doSomething() {
        context = new SpringApplicationBuilder(Application.class)
                .web(WebApplicationType.NONE)
                .bannerMode(Banner.Mode.OFF)
                .properties(
                        "spring.main.register-shutdown-hook=false",
                        "batch-persistence.recovery.interval=20ms",
                        "batch-persistence.directory=" + directory)
                .run();
        registry = context.getBean(MeterRegistry.class);
        BatchDelivery delivery = context.getBean(BatchDelivery.class);
        assertThat(delivery.deliver("1", ENTRIES, "loki").isDelivered()).isTrue();
        delivery.deliver("2", ENTRIES, "rejects");
        delivery.deliver("3", ENTRIES, "down");
        // An attempt that is in progress.
        delivery.deliverAsync("4", ENTRIES, "hangs");
        await().until(() -> value("sending") == 1 && value("dead.lettered", "collector", "rejects") == 1);
        scrape(context.getBean(PrometheusMeterRegistry.class).scrape());
    }

    @AfterAll
    static void stop() {
        RELEASE.countDown();
        context.close();
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Application {

        @Bean
        BatchSender loki() {
            return batch -> {};
        }

        @Bean
        @CollectorType({"rejects", "rejects-too"})
        BatchSender rejects() {
            return batch -> {
                throw new PermanentDeliveryException("malformed");
            };
        }

        @Bean
        BatchSender down() {
            return batch -> {
                throw new IOException("connection refused");
            };
        }

        @Bean
        BatchSender hangs() {
            return batch -> RELEASE.await();
        }
    }

    private static final Pattern SAMPLE = Pattern.compile("^(batch_persistence_\\w+)(?:\\{(.*)})? \\S+.*$");
    private static final Pattern LABEL = Pattern.compile("(\\w+)=\"([^\"]*)\"");

    private static void scrape(String text) {
        text.lines().forEach(line -> {
            Matcher sample = SAMPLE.matcher(line);
            if (sample.matches()) {
                Map<String, String> labels = new HashMap<>();
                Matcher label = LABEL.matcher(sample.group(2) == null ? "" : sample.group(2));
                while (label.find()) {
                    labels.put(label.group(1), label.group(2));
                }
                SCRAPED.computeIfAbsent(sample.group(1), name -> new ArrayList<>())
                        .add(labels);
            }
        });
    }

    private static double value(String name, String... tags) {
        return registry.get("batch.persistence." + name).tags(tags).meters().stream()
                .mapToDouble(meter -> meter.measure().iterator().next().getValue())
                .sum();
    }

    // ---- docs/metrics.md -------------------------------------------------------------------------

    /** A row of the table. */
    private record Row(String prometheus, String type, String unit, Set<String> tags) {}

    private static Map<String, Row> documented() throws IOException {
        Map<String, Row> rows = new TreeMap<>();
        for (String line : Files.readAllLines(DOCS.resolve("metrics.md"))) {
            List<String> cells =
                    Arrays.stream(line.split("\\|", -1)).map(String::strip).toList();
            if (cells.size() == 8 && cells.get(1).startsWith("`")) {
                Set<String> tags = Stream.of(cells.get(5).split(",", -1))
                        .map(tag -> tag.replace("`", "").strip())
                        .filter(tag -> !tag.isEmpty())
                        .collect(Collectors.toSet());
                assertThat(cells.get(6)).as(line).isNotEmpty();
                rows.put(
                        "batch.persistence." + cells.get(1).replace("`", ""),
                        new Row(
                                "batch_persistence_" + cells.get(2).replace("`", ""),
                                cells.get(3),
                                cells.get(4),
                                tags));
            }
        }
        assertThat(rows).hasSizeGreaterThan(30);
        return rows;
    }

    private static List<Meter> meters() {
        return registry.getMeters().stream()
                .filter(meter -> meter.getId().getName().startsWith("batch.persistence."))
                .toList();
    }

    @Test
    void the_table_has_all_meters_and_no_others() throws IOException {
        assertThat(documented().keySet())
                .isEqualTo(meters().stream()
                        .map(meter -> meter.getId().getName())
                        .collect(Collectors.toCollection(TreeSet::new)));
    }

    @Test
    void the_table_tells_their_types_units_and_tags() throws IOException {
        Map<String, Row> rows = documented();
        assertThat(meters()).allSatisfy(meter -> {
            Meter.Id id = meter.getId();
            Row row = rows.get(id.getName());
            assertThat(row).isNotNull();
            String type = id.getType().name().toLowerCase(Locale.ROOT).replace('_', ' ');
            assertThat(row.type().replace(", max", "")).isEqualTo(type);
            assertThat(id.getTags().stream().map(Tag::getKey).collect(Collectors.toSet()))
                    .isEqualTo(row.tags());
            if (id.getBaseUnit() != null) {
                assertThat(row.unit()).isEqualTo(id.getBaseUnit());
            }
            assertThat(id.getDescription() != null || id.getName().startsWith("batch.persistence.send"))
                    .as("%s has a description", id)
                    .isTrue();
        });
    }

    @Test
    void the_table_tells_what_prometheus_is_given() throws IOException {
        Set<String> expected = new TreeSet<>();
        documented().values().forEach(row -> {
            if (row.type().contains("timer")) {
                expected.add(row.prometheus() + "_count");
                expected.add(row.prometheus() + "_sum");
                if (row.type().contains("max")) {
                    expected.add(row.prometheus() + "_max");
                }
            } else {
                expected.add(row.prometheus());
            }
        });
        assertThat(SCRAPED.keySet()).isEqualTo(expected);
    }

    // ---- docs/grafana-dashboard.json and docs/prometheus-alerts.yml ------------------------------

    private static final Pattern SELECTOR = Pattern.compile("\\b(batch_persistence_\\w+)(?:\\{([^}]*)})?");
    private static final Pattern MATCHER = Pattern.compile("(\\w+)\\s*(=~|!=|!~|=)\\s*\"([^\"]*)\"");
    private static final Pattern GROUPING = Pattern.compile("\\bby\\s*\\(([^)]*)\\)");

    /** Asserts that such series exist, with such labels. */
    private static void assertKnown(String expression) {
        Matcher selector = SELECTOR.matcher(expression);
        Set<String> labels = new HashSet<>(FOREIGN_LABELS);
        int selectors = 0;
        while (selector.find()) {
            selectors++;
            List<Map<String, String>> series = SCRAPED.get(selector.group(1));
            assertThat(series)
                    .as("series of %s in %s", selector.group(1), expression)
                    .isNotNull();
            series.forEach(each -> labels.addAll(each.keySet()));
            Matcher matcher = MATCHER.matcher(selector.group(2) == null ? "" : selector.group(2));
            while (matcher.find()) {
                String label = matcher.group(1);
                if (FOREIGN_LABELS.contains(label)) {
                    continue;
                }
                boolean exact = matcher.group(2).equals("=");
                String value = matcher.group(3);
                assertThat(series)
                        .as("%s in %s", matcher.group(), expression)
                        .anySatisfy(each -> assertThat(each).containsKey(label))
                        .anySatisfy(each -> assertThat(!exact || value.equals(each.get(label)))
                                .isTrue());
            }
        }
        assertThat(selectors).as(expression).isPositive();
        Matcher grouping = GROUPING.matcher(expression);
        while (grouping.find()) {
            assertThat(Stream.of(grouping.group(1).split(",", -1)).map(String::strip))
                    .as(expression)
                    .allSatisfy(label -> assertThat(labels).contains(label));
        }
    }

    @Test
    void the_dashboard_shows_what_there_is() throws IOException {
        JsonNode dashboard = JsonMapper.shared().readTree(Files.readString(DOCS.resolve("grafana-dashboard.json")));
        Set<String> shown = new TreeSet<>();
        Set<Integer> ids = new HashSet<>();
        for (JsonNode panel : dashboard.get("panels")) {
            assertThat(ids.add(panel.get("id").asInt()))
                    .as("id of %s", panel.get("title"))
                    .isTrue();
            assertThat(panel.get("title").asString()).isNotBlank();
            if (panel.get("type").asString().equals("row")) {
                continue;
            }
            assertThat(panel.get("targets")).as("%s", panel.get("title")).isNotEmpty();
            for (JsonNode target : panel.get("targets")) {
                String expression = target.get("expr").asString();
                assertKnown(expression);
                SELECTOR.matcher(expression).results().forEach(found -> shown.add(found.group(1)));
            }
        }
        for (JsonNode variable : dashboard.at("/templating/list")) {
            if (variable.get("type").asString().equals("query")) {
                assertKnown(variable.at("/query/query").asString());
            }
        }
        // Series that are left out of the dashboard on purpose.
        Set<String> left = new TreeSet<>(SCRAPED.keySet());
        left.removeAll(shown);
        assertThat(left)
                .containsExactlyInAnyOrder(
                        "batch_persistence_entries",
                        "batch_persistence_fallback_batches",
                        "batch_persistence_outages_total",
                        "batch_persistence_problem",
                        "batch_persistence_send_active_seconds_count",
                        "batch_persistence_send_active_seconds_max",
                        "batch_persistence_send_active_seconds_sum",
                        "batch_persistence_sending");
    }

    @Test
    void the_alerts_are_about_what_there_is() throws IOException {
        String page = Files.readString(DOCS.resolve("metrics.md"));
        Set<String> alerts = new TreeSet<>();
        Map<String, Object> file = new Yaml().load(Files.readString(DOCS.resolve("prometheus-alerts.yml")));
        for (Map<String, Object> group : listOfMaps(file.get("groups"))) {
            for (Map<String, Object> rule : listOfMaps(group.get("rules"))) {
                String expression = String.valueOf(rule.get("expr"));
                assertKnown(expression);
                alerts.add(String.valueOf(rule.get("alert")));
                assertThat(rule.get("labels")).asString().containsPattern("severity=(warning|critical)");
                assertThat(rule.get("annotations")).asString().contains("summary=", "description=");
                Set<String> labels = new HashSet<>(FOREIGN_LABELS);
                SELECTOR.matcher(expression)
                        .results()
                        .forEach(found -> SCRAPED.get(found.group(1)).forEach(each -> labels.addAll(each.keySet())));
                Pattern.compile("\\$labels\\.(\\w+)")
                        .matcher(String.valueOf(rule.get("annotations")))
                        .results()
                        .forEach(found -> assertThat(labels).contains(found.group(1)));
            }
        }
        Set<String> documented = Pattern.compile("(?m)^\\| `(BatchPersistence\\w+)` \\|")
                .matcher(page)
                .results()
                .map(found -> found.group(1))
                .collect(Collectors.toCollection(TreeSet::new));
        assertThat(documented).isEqualTo(alerts);
    }

    // The types that a YAML parser returns.
    @SuppressWarnings("unchecked")
    private static List<Map<String, Object>> listOfMaps(Object list) {
        return (List<Map<String, Object>>) list;
    }

    // ---- their values ----------------------------------------------------------------------------

    @Test
    void meters_say_what_happened() {
        assertThat(value("accepted", "collector", "loki")).isEqualTo(1);
        assertThat(value("delivered", "collector", "loki")).isEqualTo(1);
        assertThat(value("batches", "collector", "down", "state", "pending")
                        + value("batches", "collector", "down", "state", "in_flight"))
                .isEqualTo(1);
        assertThat(value("entries", "collector", "rejects", "state", "dead")).isEqualTo(2);
        assertThat(value("bytes", "collector", "rejects", "state", "dead")).isPositive();
        assertThat(value("bytes", "collector", "loki")).isZero();
        assertThat(value("failed.attempts", "collector", "down")).isPositive();
        assertThat(value("send", "collector", "loki", "outcome", "delivered", "attempt", "first"))
                .isEqualTo(1);
        assertThat(value("send", "collector", "rejects", "outcome", "rejected")).isEqualTo(1);
        assertThat(value("send", "collector", "down", "outcome", "failed", "error", "IOException"))
                .isPositive();
        assertThat(value("send.active", "collector", "hangs")).isEqualTo(1);
        assertThat(value("delivery", "collector", "loki")).isEqualTo(1);
        assertThat(value("delivery", "collector", "rejects")).isZero();
        assertThat(value("lag", "collector", "hangs")).isEqualTo(1);
        assertThat(value("written.batches")).isBetween(4.0, 5.0);
        assertThat(value("writes")).isBetween(1.0, 5.0);
        assertThat(value("written")).isPositive();
        assertThat(value("force")).isGreaterThanOrEqualTo(value("writes"));
        assertThat(value("disk.free")).isPositive();
        assertThat(value("disk.usage")).isPositive().isLessThan(value("disk.limit"));
        assertThat(value("problem")).isZero();
        assertThat(value("refused")).isZero();
    }

    @Test
    void an_outage_a_replay_and_a_pause_are_seen() {
        BatchPersistence persistence = context.getBean(BatchPersistence.class);
        await().untilAsserted(() -> {
            persistence.recover(BatchSelector.all().collectorTypes("down"));
            assertThat(value("lane.open", "collector", "down")).isEqualTo(1);
            assertThat(value("outage.age", "collector", "down")).isPositive();
            assertThat(value("outages", "collector", "down")).isEqualTo(1);
        });
        context.getBean(BatchDelivery.class).deliver("5", ENTRIES, "rejects-too");
        persistence.pause("rejects-too");
        persistence.replay(BatchSelector.all().collectorTypes("rejects-too"));
        await().untilAsserted(() -> {
            assertThat(value("replayed")).isEqualTo(1);
            assertThat(value("lane.paused", "collector", "rejects-too")).isEqualTo(1);
            assertThat(value("lane.paused", "collector", "loki")).isZero();
        });
    }
}
