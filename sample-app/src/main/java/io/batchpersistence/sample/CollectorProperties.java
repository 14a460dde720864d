package io.batchpersistence.sample;

import java.net.URI;
import java.time.Duration;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;

/**
 * The collectors to send to.
 *
 * @param loki Grafana Loki, or a server that accepts its push protocol
 * @param elasticsearch Elasticsearch, OpenSearch, or a server that accepts their bulk protocol
 */
@ConfigurationProperties("collectors")
record CollectorProperties(
        @DefaultValue Loki loki, @DefaultValue Elasticsearch elasticsearch) {

    /**
     * Loki.
     *
     * @param url without {@code /loki/api/v1/push}; default: the collector built into this application
     * @param username for basic authentication
     * @param password for basic authentication
     * @param token for bearer authentication
     * @param tenant sent as {@code X-Scope-OrgID}
     * @param connectTimeout how long connecting may take
     * @param requestTimeout how long the response may take
     */
    record Loki(
            @Nullable URI url,
            @Nullable String username,
            @Nullable String password,
            @Nullable String token,
            @Nullable String tenant,
            @DefaultValue("3s") Duration connectTimeout,
            @DefaultValue("15s") Duration requestTimeout) {

        /** Leaves out secrets. */
        @Override
        public String toString() {
            return "Loki[" + CollectorClient.shown(url) + "]";
        }
    }

    /**
     * Elasticsearch.
     *
     * @param url without {@code /_bulk}; default: the collector built into this application
     * @param index the index or data stream for the documents
     * @param username for basic authentication
     * @param password for basic authentication
     * @param token an API key, sent as {@code Authorization: ApiKey …}
     * @param connectTimeout how long connecting may take
     * @param requestTimeout how long the response may take
     */
    record Elasticsearch(
            @Nullable URI url,
            @DefaultValue("logs") String index,
            @Nullable String username,
            @Nullable String password,
            @Nullable String token,
            @DefaultValue("3s") Duration connectTimeout,
            @DefaultValue("30s") Duration requestTimeout) {

        /** Leaves out secrets. */
        @Override
        public String toString() {
            return "Elasticsearch[" + CollectorClient.shown(url) + ", index " + index + "]";
        }
    }
}
