package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.jdbc.JdbcStoreOptions;
import io.batchpersistence.jdbc.JdbcStoreOptions.InitializeSchema;
import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.RecordComponent;
import java.nio.charset.StandardCharsets;
import java.time.Clock;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.springframework.boot.context.properties.bind.Binder;
import org.springframework.boot.context.properties.source.ConfigurationPropertySources;
import org.springframework.boot.convert.ApplicationConversionService;
import org.springframework.boot.env.YamlPropertySourceLoader;
import org.springframework.core.env.MapPropertySource;
import org.springframework.core.env.MutablePropertySources;
import org.springframework.core.env.PropertySource;
import org.springframework.core.env.SystemEnvironmentPropertySource;
import org.springframework.core.io.ByteArrayResource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class BatchPersistencePropertiesTest {

    private static final String PREFIX = "batch-persistence.";

    /** For each key below the prefix, a value that is not its default, and the text of the bound value. */
    private static final Map<String, String> SAMPLES = new TreeMap<>(Map.ofEntries(
            Map.entry("enabled", "false"),
            Map.entry("directory", "/somewhere/else"),
            Map.entry("batch-timeout", "PT7M"),
            Map.entry("max-recovery-retries", "3"),
            Map.entry("batch-ttl", "PT11H"),
            Map.entry("dead-letter-ttl", "PT13H"),
            Map.entry("max-pending-batches", "1234"),
            Map.entry("max-disk-usage", "77777777B"),
            Map.entry("max-dead-letter-usage", "7777777B"),
            Map.entry("overflow-policy", "DROP_OLDEST"),
            Map.entry("overflow-timeout", "PT17S"),
            Map.entry("store", "JSON_FILES"),
            Map.entry("format", "JSON"),
            Map.entry("compression", "NONE"),
            Map.entry("jdbc.data-source", "logs"),
            Map.entry("jdbc.table-prefix", "logs_"),
            Map.entry("jdbc.schema", "shipping"),
            Map.entry("jdbc.initialize-schema", "NEVER"),
            Map.entry("jdbc.instance-name", "shipper-3"),
            Map.entry("jdbc.lease", "PT53S"),
            Map.entry("jdbc.query-timeout", "PT3S"),
            // The defaults of the next two keys, since other values need another store than the default one.
            Map.entry("jdbc.join-transaction", "false"),
            Map.entry("jdbc.fallback", "NONE"),
            Map.entry("sync", "INTERVAL"),
            Map.entry("sync-interval", "PT0.019S"),
            Map.entry("shutdown-timeout", "PT23S"),
            Map.entry("recovery.enabled", "false"),
            Map.entry("recovery.interval", "PT29S"),
            Map.entry("recovery.backoff-base", "PT2S"),
            Map.entry("recovery.backoff-multiplier", "3.5"),
            Map.entry("recovery.backoff-max", "PT37S"),
            Map.entry("recovery.jitter", "0.25"),
            Map.entry("recovery.concurrency", "4"),
            Map.entry("recovery.max-rate", "12.5"),
            Map.entry("recovery.order", "NEWEST_FIRST"),
            Map.entry("recovery.outage-threshold", "5"),
            Map.entry("recovery.max-retry-after", "PT59M"),
            Map.entry("recovery.replay-after-outage", "true"),
            Map.entry("recovery.max-threads", "17"),
            Map.entry("recovery.include-collector-types", "[loki]"),
            Map.entry("recovery.exclude-collector-types", "[kafka]"),
            Map.entry("recovery.exclude-failure-reasons", "[*401*]"),
            Map.entry("cleanup.interval", "PT41S"),
            Map.entry("cleanup.compaction-rate", "7777777B"),
            Map.entry("health.max-pending-age", "PT43M"),
            Map.entry("health.max-fill-level", "0.5"),
            Map.entry("health.corruption-window", "PT47M"),
            Map.entry("endpoint.show-entries", "WHEN_AUTHORIZED"),
            Map.entry("endpoint.roles", "[auditor]"),
            Map.entry("ui.enabled", "true"),
            Map.entry("ui.path", "/operators/batches"),
            Map.entry("ui.access", "UNRESTRICTED")));

    @Test
    void samples_cover_every_key_of_the_metadata() throws IOException {
        assertThat(metadata().keySet().stream()
                        .filter(name -> name.startsWith(PREFIX))
                        .map(name -> name.substring(PREFIX.length()))
                        .filter(name -> !name.equals("collectors")))
                .containsExactlyInAnyOrderElementsOf(SAMPLES.keySet());
    }

    @Test
    void every_key_of_the_metadata_is_described_and_has_its_default() throws IOException {
        BatchPersistenceProperties defaults = bind(new MapPropertySource("none", Map.of()));
        Map<String, JsonNode> metadata = metadata();
        assertThat(metadata).containsKeys(PREFIX + "collectors", "management.health.batchpersistence.enabled");
        metadata.forEach((name, property) -> {
            assertThat(property.path("description").asString(""))
                    .as("description of %s", name)
                    .isNotBlank()
                    .endsWith(".");
            if (name.startsWith(PREFIX) && SAMPLES.containsKey(name.substring(PREFIX.length()))) {
                Object value = value(defaults, name.substring(PREFIX.length()));
                boolean absent = Stream.of(
                                "max-dead-letter-usage", "jdbc.data-source", "jdbc.schema", "jdbc.instance-name")
                        .map(PREFIX::concat)
                        .anyMatch(name::equals);
                if (!absent && !(value instanceof java.util.Collection<?>)) {
                    assertThat(property.path("defaultValue").asString(""))
                            .as("default of %s", name)
                            .isNotBlank();
                }
            }
        });
    }

    @Test
    void defaults_are_those_of_the_documentation() {
        BatchPersistenceProperties defaults = bind(new MapPropertySource("none", Map.of()));
        assertThat(defaults.enabled()).isTrue();
        assertThat(defaults.directory()).isEqualTo("./batch_persistence");
        assertThat(defaults.collectorSettings("any")).isEqualTo(CollectorSettings.DEFAULT);
        assertThat(defaults.recovery().interval()).isEqualTo(Duration.ofSeconds(1));
        assertThat(defaults.cleanup().interval()).isEqualTo(Duration.ofMinutes(1));
        assertThat(defaults.overflowTimeout()).isEqualTo(Duration.ofSeconds(5));
        assertThat(defaults.shutdownTimeout()).isEqualTo(Duration.ofSeconds(30));
        assertThat(defaults.storeOptions(Clock.systemUTC()))
                .isEqualTo(DiskStoreOptions.builder(defaults.path()).build());
        assertThat(defaults.path()).isAbsolute().hasFileName("batch_persistence");
    }

    static Stream<Arguments> keysAndForms() {
        return SAMPLES.keySet().stream()
                .flatMap(key -> Stream.of("yaml_underscore", "yaml-kebab", "env", "envCanonical", "flat")
                        .map(form -> Arguments.of(key, form)));
    }

    @ParameterizedTest
    @MethodSource("keysAndForms")
    void binds_every_key_in_every_form(String key, String form) throws IOException {
        BatchPersistenceProperties bound = bind(source(form, "batch-persistence." + key, written(SAMPLES.get(key))));
        assertThat(Objects.toString(value(bound, key))).isEqualTo(SAMPLES.get(key));
    }

    static Stream<Arguments> collectorKeysAndForms() {
        return collectorSamples().keySet().stream()
                .flatMap(key -> Stream.of("yaml_underscore", "yaml-kebab", "envCanonical", "flat")
                        .map(form -> Arguments.of(key, form)));
    }

    private static Map<String, String> collectorSamples() {
        Map<String, String> samples = new TreeMap<>();
        for (RecordComponent component : BatchPersistenceProperties.Collector.class.getRecordComponents()) {
            String key = kebab(component.getName());
            if (!key.equals("recovery")) {
                samples.put(key, SAMPLES.get(key));
            }
        }
        for (RecordComponent component : BatchPersistenceProperties.CollectorRecovery.class.getRecordComponents()) {
            String key = "recovery." + kebab(component.getName());
            samples.put(key, SAMPLES.get(key));
        }
        return samples;
    }

    @ParameterizedTest
    @MethodSource("collectorKeysAndForms")
    void binds_every_override_in_every_form(String key, String form) throws IOException {
        BatchPersistenceProperties bound =
                bind(source(form, "batch-persistence.collectors.loki." + key, written(SAMPLES.get(key))));
        Object collector = bound.collectors().get("loki");
        assertThat(collector).isNotNull();
        assertThat(Objects.toString(value(collector, key))).isEqualTo(SAMPLES.get(key));
        assertThat(bound.collectorSettings("loki")).isNotEqualTo(CollectorSettings.DEFAULT);
        assertThat(bound.collectorSettings("other")).isEqualTo(CollectorSettings.DEFAULT);
    }

    @Test
    void an_environment_variable_with_underscores_overrides_a_collector_that_the_yaml_names() throws IOException {
        BatchPersistenceProperties bound = bind(
                new SystemEnvironmentPropertySource(
                        "env-systemEnvironment", Map.of("BATCH_PERSISTENCE_COLLECTORS_LOKI_BATCH_TIMEOUT", "9s")),
                source("yaml_underscore", "batch-persistence.collectors.loki.batch-timeout", "8s"));
        assertThat(bound.collectorSettings("loki").batchTimeout()).isEqualTo(Duration.ofSeconds(9));
    }

    @Test
    void a_collector_type_with_dots_and_capitals_is_written_in_brackets() throws IOException {
        BatchPersistenceProperties bound = bind(yaml("""
                batch_persistence:
                  collectors:
                    "[My.Collector_1]":
                      batch_timeout: 8s
                      recovery:
                        order: newest-first
                """));
        assertThat(bound.collectorSettings("My.Collector_1").batchTimeout()).isEqualTo(Duration.ofSeconds(8));
        assertThat(bound.collectorSettings("My.Collector_1").order()).isEqualTo(BatchOrder.NEWEST_FIRST);
        assertThat(bound.collectorSettings("My.Collector_1").batchTtl()).isEqualTo(Duration.ofHours(24));
    }

    @Test
    void recovery_serves_only_the_collector_types_selected() throws IOException {
        BatchPersistenceProperties bound = bind(yaml("""
                batch_persistence.recovery.include_collector_types: loki, otlp
                """));
        assertThat(bound.collectorSettings("loki").recovery()).isTrue();
        assertThat(bound.collectorSettings("kafka").recovery()).isFalse();
        bound = bind(yaml("""
                batch_persistence.recovery:
                  exclude_collector_types: [loki]
                """));
        assertThat(bound.collectorSettings("loki").recovery()).isFalse();
        assertThat(bound.collectorSettings("kafka").recovery()).isTrue();
        bound = bind(yaml("""
                batch_persistence:
                  recovery.enabled: false
                  collectors.loki.recovery.enabled: true
                """));
        assertThat(bound.collectorSettings("loki").recovery()).isTrue();
        assertThat(bound.collectorSettings("kafka").recovery()).isFalse();
    }

    @ParameterizedTest
    @CsvSource({
        "segment,,,PROTOBUF,ZSTD",
        "segment,json,,JSON,ZSTD",
        "segment,json,none,JSON,NONE",
        "json_files,,,JSON,NONE",
        "json-files,json,none,JSON,NONE"
    })
    void format_and_compression_suit_the_store(
            String store, String format, String compression, BatchFormat wantedFormat, Compression wantedCompression) {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("batch-persistence.store", store);
        if (format != null) {
            map.put("batch-persistence.format", format);
        }
        if (compression != null) {
            map.put("batch-persistence.compression", compression);
        }
        DiskStoreOptions options = bind(new MapPropertySource("test", map)).storeOptions(Clock.systemUTC());
        assertThat(options.format()).isEqualTo(wantedFormat);
        assertThat(options.compression()).isEqualTo(wantedCompression);
    }

    @Test
    void the_store_in_a_database_is_set_up_as_written() throws IOException {
        JdbcStoreOptions defaults = bind(yaml(
                        "batch_persistence: { store: jdbc, jdbc: { instance_name: instance, initialize_schema: always } }\n"))
                .jdbcStoreOptions(
                        "",
                        Clock.systemUTC(),
                        JdbcStoreOptions.builder().build().transaction());
        assertThat(defaults)
                .usingRecursiveComparison()
                .ignoringFields("transaction")
                .isEqualTo(JdbcStoreOptions.builder().build());
        JdbcStoreOptions options = bind(yaml("""
                batch_persistence:
                  store: jdbc
                  max_pending_batches: 77
                  max_disk_usage: 7MB
                  format: json
                  compression: none
                  jdbc: { table_prefix: logs_, schema: shipping, lease: 20s, query_timeout: 5s, join_transaction: true, fallback: segment }
                """)).jdbcStoreOptions("shop", Clock.systemUTC(), () -> null);
        assertThat(options.tablePrefix()).isEqualTo("logs_");
        assertThat(options.schema()).isEqualTo("shipping");
        assertThat(options.initializeSchema()).isEqualTo(InitializeSchema.EMBEDDED);
        assertThat(options.lease()).isEqualTo(Duration.ofSeconds(20));
        assertThat(options.queryTimeout()).isEqualTo(Duration.ofSeconds(5));
        assertThat(options.maxBatches()).isEqualTo(77);
        assertThat(options.maxBytes()).isEqualTo(7L << 20);
        assertThat(options.format()).isEqualTo(BatchFormat.JSON);
        assertThat(options.compression()).isEqualTo(Compression.NONE);
        assertThat(options.instanceName()).isNotBlank();
        assertThat(options.application()).isEqualTo("shop");
    }

    @Test
    void a_directory_named_like_a_class_path_resource_is_still_that_of_the_working_directory() {
        // "META-INF" is on the class path, as a directory of the test classes' output or of a jar.
        BatchPersistenceProperties bound =
                bind(new MapPropertySource("test", Map.of("batch-persistence.directory", "META-INF")));
        assertThat(bound.path())
                .isEqualTo(java.nio.file.Path.of("").toAbsolutePath().resolve("META-INF"));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "directory=' '|batch_persistence.directory is blank",
                "batch-timeout=-5s|batch_persistence.batch_timeout is -5s",
                "batch-timeout=0|batch_persistence.batch_timeout is 0ms",
                "batch-timeout=24h|batch_persistence.batch_timeout is 24h, but batch_persistence.batch_ttl is 24h",
                "max-recovery-retries=0|batch_persistence.max_recovery_retries is 0",
                "batch-ttl=-1s|batch_persistence.batch_ttl is -1s",
                "dead-letter-ttl=0s|batch_persistence.dead_letter_ttl is 0ms",
                "max-pending-batches=0|batch_persistence.max_pending_batches is 0",
                "max-pending-batches=600000000|batch_persistence.max_pending_batches is 600000000",
                "max-disk-usage=0|batch_persistence.max_disk_usage is 0B",
                "max-disk-usage=-1GB|batch_persistence.max_disk_usage is -",
                "max-dead-letter-usage=0|batch_persistence.max_dead_letter_usage is 0B",
                "overflow-timeout=-1s|batch_persistence.overflow_timeout is -1s",
                "sync-interval=0|batch_persistence.sync_interval is 0ms",
                "shutdown-timeout=-1s|batch_persistence.shutdown_timeout is -1s",
                "recovery.interval=0|batch_persistence.recovery.interval is 0ms",
                "recovery.backoff-base=-1|batch_persistence.recovery.backoff_base is -1ms",
                "recovery.backoff-base=10m|batch_persistence.recovery.backoff_max is 5m, which is less than the recovery.backoff_base of 10m",
                "recovery.backoff-multiplier=0.5|batch_persistence.recovery.backoff_multiplier is 0.5",
                "recovery.jitter=1.5|batch_persistence.recovery.jitter is 1.5",
                "recovery.concurrency=0|batch_persistence.recovery.concurrency is 0",
                "recovery.max-rate=-1|batch_persistence.recovery.max_rate is -1.0",
                "recovery.max-threads=0|batch_persistence.recovery.max_threads is 0",
                "recovery.max-retry-after=0s|batch_persistence.recovery.max_retry_after is 0",
                "recovery.outage-threshold=-1|batch_persistence.recovery.outage_threshold is -1",
                "cleanup.interval=-1m|batch_persistence.cleanup.interval is -1m",
                "cleanup.compaction-rate=0|batch_persistence.cleanup.compaction_rate is 0B",
                "health.max-pending-age=0|batch_persistence.health.max_pending_age is 0ms",
                "health.max-fill-level=0|batch_persistence.health.max_fill_level is 0.0",
                "store=json_files;format=protobuf|batch_persistence.format is protobuf, but batch_persistence.store is json_files",
                "store=json_files;compression=zstd|batch_persistence.compression is zstd, but batch_persistence.store is json_files",
                "store=jdbc;sync=never|batch_persistence.sync is never, but batch_persistence.store is jdbc",
                "jdbc.fallback=segment|batch_persistence.jdbc.fallback is segment, but batch_persistence.store is segment",
                "jdbc.join-transaction=true|batch_persistence.jdbc.join_transaction is true, but batch_persistence.store is segment",
                "jdbc.data-source=' '|batch_persistence.jdbc.data_source is blank",
                "jdbc.table-prefix=a.b|batch_persistence.jdbc.table_prefix is 'a.b': table prefix must be 1 to 30 letters",
                "jdbc.schema=a/b|batch_persistence.jdbc.schema is 'a/b': schema must be",
                "jdbc.instance-name=' '|batch_persistence.jdbc.instance_name is ' ': instance name must not be blank",
                "jdbc.lease=999ms|batch_persistence.jdbc.lease is 999ms: lease must be between 1 second and 1 day",
                "jdbc.query-timeout=0|batch_persistence.jdbc.query_timeout is 0ms: query timeout must be positive",
                "jdbc.query-timeout=2h;jdbc.lease=3h|batch_persistence.jdbc.query_timeout is 2h: query timeout must be positive, and at most an hour",
                "jdbc.query-timeout=30s|batch_persistence.jdbc.query_timeout is 30s, but batch_persistence.jdbc.lease is 30s",
                "recovery.include-collector-types=a,b;recovery.exclude-collector-types=b|both name b",
                "recovery.include-collector-types=LONG|batch_persistence.recovery.include_collector_types has a name that no batch can have",
                "recovery.exclude-collector-types=LONG|batch_persistence.recovery.exclude_collector_types has a name that no batch can have",
                "recovery.exclude-failure-reasons=LONG|batch_persistence.recovery.exclude_failure_reasons has a pattern that is too long: a glob must have at most 8192 characters, but has 9000",
                "collectors.LONG.batch-timeout=1s|batch_persistence.collectors has a name that no batch can have",
                "collectors.loki.batch-timeout=-1s|batch_persistence.collectors.loki.batch_timeout is -1s",
                "collectors.loki.batch-timeout=25h|batch_persistence.collectors.loki.batch_timeout is 25h, but batch_persistence.batch_ttl is 24h",
                "collectors.loki.batch-ttl=1m|batch_persistence.batch_timeout is 5m, but batch_persistence.collectors.loki.batch_ttl is 1m",
                "collectors.loki.max-recovery-retries=0|batch_persistence.collectors.loki.max_recovery_retries is 0",
                "collectors.loki.dead-letter-ttl=0|batch_persistence.collectors.loki.dead_letter_ttl is 0ms",
                "collectors.loki.recovery.backoff-max=1ms|batch_persistence.collectors.loki.recovery.backoff_max is 1ms",
                "collectors.loki.recovery.concurrency=0|batch_persistence.collectors.loki.recovery.concurrency is 0",
                "collectors.loki.recovery.enabled=true;recovery.exclude-collector-types=loki|batch_persistence.collectors.loki.recovery.enabled is true, but batch_persistence.recovery.exclude_collector_types names loki",
                "collectors.loki.recovery.enabled=true;recovery.include-collector-types=kafka|include_collector_types does not name loki",
            })
    void what_cannot_be_meant_is_refused_by_key(String settings, String message) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (String setting : settings.replace("LONG", "x".repeat(9_000)).split(";", -1)) {
            String[] parts = setting.split("=", 2);
            map.put("batch-persistence." + parts[0], parts[1].equals("' '") ? " " : parts[1]);
        }
        assertThatThrownBy(() -> bind(new MapPropertySource("test", map)))
                .rootCause()
                .isInstanceOf(InvalidSettingException.class)
                .hasMessageContaining(message)
                .satisfies(
                        e -> assertThat(((InvalidSettingException) e).action()).isNotBlank());
    }

    // -------------------------------------------------------------- fixtures

    private static Map<String, JsonNode> metadata() throws IOException {
        try (InputStream json =
                BatchPersistenceProperties.class.getResourceAsStream("/META-INF/spring-configuration-metadata.json")) {
            assertThat(json).isNotNull();
            Map<String, JsonNode> properties = new TreeMap<>();
            for (JsonNode property : JsonMapper.shared().readTree(json).get("properties")) {
                properties.put(property.get("name").asString(), property);
            }
            return properties;
        }
    }

    private static BatchPersistenceProperties bind(PropertySource<?>... sources) {
        MutablePropertySources all = new MutablePropertySources();
        List.of(sources).forEach(all::addLast);
        return new Binder(
                        ConfigurationPropertySources.from(all), null, ApplicationConversionService.getSharedInstance())
                .bindOrCreate("batch-persistence", BatchPersistenceProperties.class);
    }

    private static String written(String sample) {
        String text = sample.startsWith("[") ? sample.substring(1, sample.length() - 1) : sample;
        return text.matches("[A-Z_]{4,}") ? text.toLowerCase(Locale.ROOT) : text;
    }

    private static PropertySource<?> source(String form, String key, String value) throws IOException {
        return switch (form) {
            case "flat" -> new MapPropertySource("flat", Map.of(key, value));
            case "env" ->
                new SystemEnvironmentPropertySource(
                        "x-systemEnvironment",
                        Map.of(key.toUpperCase(Locale.ROOT).replace('-', '_').replace('.', '_'), value));
            case "envCanonical" ->
                new SystemEnvironmentPropertySource(
                        "x-systemEnvironment",
                        Map.of(key.toUpperCase(Locale.ROOT).replace("-", "").replace('.', '_'), value));
            case "yaml-kebab", "yaml_underscore" -> {
                String[] parts = (form.equals("yaml-kebab") ? key : key.replace('-', '_')).split("\\.", -1);
                StringBuilder text = new StringBuilder();
                for (int i = 0; i < parts.length; i++) {
                    text.append("  ".repeat(i)).append(parts[i]).append(i < parts.length - 1 ? ":\n" : ": ");
                }
                yield yaml(text + "\"" + value + "\"\n");
            }
            default -> throw new IllegalArgumentException(form);
        };
    }

    private static PropertySource<?> yaml(String text) throws IOException {
        List<PropertySource<?>> sources = new ArrayList<>(new YamlPropertySourceLoader()
                .load("application.yml", new ByteArrayResource(text.getBytes(StandardCharsets.UTF_8))));
        assertThat(sources).hasSize(1);
        return sources.get(0);
    }

    private static Object value(Object owner, String key) {
        Object value = owner;
        for (String part : key.split("\\.", -1)) {
            try {
                Class<?> type = value.getClass();
                java.lang.reflect.Method accessor = type.getMethod(camel(part));
                value = accessor.invoke(value);
            } catch (ReflectiveOperationException e) {
                throw new LinkageError(e.getMessage(), e);
            }
        }
        return value instanceof java.util.Set<?> set ? new TreeSet<Object>(set) : value;
    }

    private static String camel(String kebab) {
        String[] parts = kebab.split("-", -1);
        return parts[0]
                + Stream.of(parts)
                        .skip(1)
                        .map(part -> part.substring(0, 1).toUpperCase(Locale.ROOT) + part.substring(1))
                        .collect(Collectors.joining());
    }

    private static String kebab(String camel) {
        return camel.replaceAll("([A-Z])", "-$1").toLowerCase(Locale.ROOT);
    }
}
