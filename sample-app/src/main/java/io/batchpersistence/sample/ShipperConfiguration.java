package io.batchpersistence.sample;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.sample.CollectorProperties.Elasticsearch;
import io.batchpersistence.sample.CollectorProperties.Loki;
import io.batchpersistence.sample.ShipperProperties.Source;
import io.batchpersistence.sample.ShipperProperties.TextToSource;
import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.binder.MeterBinder;
import java.io.IOException;
import java.net.URI;
import java.time.Clock;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.boot.context.properties.ConfigurationPropertiesBinding;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.core.env.Environment;

/**
 * Connects the shipper to the starter: the starter finds the senders by their bean names, which are the collector
 * types.
 */
@Configuration(proxyBeanMethods = false)
@ConditionalOnProperty(name = "shipper.enabled", havingValue = "true", matchIfMissing = true)
@EnableConfigurationProperties({ShipperProperties.class, CollectorProperties.class})
@Import({DeliveryOutbox.class, ShipperStats.class, TailerLifecycle.class, SameOriginFilter.class})
class ShipperConfiguration {

    private static final Clock CLOCK = Clock.systemUTC();

    @Bean
    @ConfigurationPropertiesBinding
    static TextToSource textToSource() {
        return new TextToSource();
    }

    @Bean
    LokiSender loki(CollectorProperties collectors, Environment environment) {
        Loki loki = collectors.loki();
        Map<String, String> headers = new HashMap<>();
        if (loki.username() != null) {
            headers.put("Authorization", CollectorClient.basic(loki.username(), loki.password()));
        } else if (loki.token() != null) {
            headers.put("Authorization", "Bearer " + loki.token());
        }
        if (loki.tenant() != null) {
            headers.put("X-Scope-OrgID", loki.tenant());
        }
        CollectorClient client = new CollectorClient(
                "loki",
                urlOrBuiltIn(loki.url(), environment),
                headers,
                loki.connectTimeout(),
                loki.requestTimeout(),
                CLOCK);
        return new LokiSender(client, environment.getProperty("spring.application.name", "sample-app"));
    }

    @Bean
    ElasticsearchSender elasticsearch(CollectorProperties collectors, Environment environment) {
        Elasticsearch elasticsearch = collectors.elasticsearch();
        Map<String, String> headers = new HashMap<>();
        if (elasticsearch.username() != null) {
            headers.put("Authorization", CollectorClient.basic(elasticsearch.username(), elasticsearch.password()));
        } else if (elasticsearch.token() != null) {
            headers.put("Authorization", "ApiKey " + elasticsearch.token());
        }
        CollectorClient client = new CollectorClient(
                "elasticsearch",
                urlOrBuiltIn(elasticsearch.url(), environment),
                headers,
                elasticsearch.connectTimeout(),
                elasticsearch.requestTimeout(),
                CLOCK);
        return new ElasticsearchSender(client, elasticsearch.index());
    }

    /** The port of this process is known only after its web server has started. */
    private static Supplier<URI> urlOrBuiltIn(@Nullable URI url, Environment environment) {
        return () -> {
            if (url != null) {
                return url;
            }
            String port = environment.getProperty("local.server.port");
            if (port == null) {
                throw new IllegalStateException("the built-in collector has not started yet");
            }
            return URI.create("http://" + environment.getProperty("server.address", "localhost") + ":" + port);
        };
    }

    @Bean
    FileTailer fileTailer(
            ShipperProperties settings, Outbox outbox, ShipperStats stats, Map<String, BatchSender> senders)
            throws IOException {
        requireKnown("shipper.collector", settings.collector(), senders);
        for (Source source : settings.files()) {
            if (source.collector() != null) {
                requireKnown("the collector of " + source.path(), source.collector(), senders);
            }
        }
        return new FileTailer(settings, outbox, stats, CLOCK);
    }

    private static void requireKnown(String what, String collector, Map<String, BatchSender> senders) {
        if (!senders.containsKey(collector)) {
            throw new IllegalArgumentException(
                    what + " is '" + collector + "', but must be one of " + new TreeSet<>(senders.keySet()));
        }
    }

    @Bean
    LogController logController(
            Outbox outbox, ShipperStats stats, Map<String, BatchSender> senders, ShipperProperties settings) {
        return new LogController(outbox, new EntryParser(CLOCK), stats, senders.keySet(), settings);
    }

    @Bean
    OperatorController operatorController(BatchPersistence persistence, Map<String, BatchSender> senders) {
        return new OperatorController(persistence, senders.keySet());
    }

    @Bean
    Alarms alarms() {
        return new Alarms(CLOCK);
    }

    @Bean
    MeterBinder shipperMetrics(ShipperStats stats) {
        Map<String, AtomicLong> counters = Map.of(
                "shipper.batches", stats.batches,
                "shipper.entries", stats.entries,
                "shipper.empty.lines", stats.emptyLines,
                "shipper.refusals", stats.refusals);
        return registry -> counters.forEach((name, counter) ->
                FunctionCounter.builder(name, counter, AtomicLong::get).register(registry));
    }
}
