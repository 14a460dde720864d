package io.batchpersistence.spring.ui;

import io.batchpersistence.BatchState;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.spring.ApplicationTestBase;
import io.batchpersistence.spring.autoconfigure.WithoutSecurity;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.springframework.context.annotation.Configuration;

/** Tests with a {@link PageApplication}, which ends with the test. */
abstract class PageTestBase extends ApplicationTestBase {

    static final String UNRESTRICTED = "batch-persistence.ui.access=unrestricted";

    @Configuration(proxyBeanMethods = false)
    static class Nothing {}

    void start(Class<?> more, String... properties) {
        context = application(PageApplication.class, more)
                .properties(
                        "spring.application.name=test-application",
                        "batch-persistence.ui.enabled=true",
                        "batch-persistence.recovery.interval=50ms",
                        "batch-persistence.recovery.backoff-base=100ms",
                        "batch-persistence.recovery.backoff-max=300ms",
                        more == OperatorPageSecurityTest.Secured.class ? "" : WithoutSecurity.PROPERTY)
                .properties(properties)
                .run();
    }

    BatchState state(String id) {
        return persistence().find(id).orElseThrow().state();
    }

    void persist(String id, String collectorType) {
        persistence()
                .persistBatch(
                        id,
                        List.of(
                                LogEntry.of(
                                        Instant.parse("2026-01-01T00:00:00Z"), "INFO", "GET /index.html 200 for " + id),
                                LogEntry.of(Instant.parse("2026-01-01T00:00:01Z"), "WARN", "slow: 1.3 s")),
                        collectorType,
                        Map.of("tenant", "tenant-of-" + id));
        persistence().releaseBatch(id);
    }

    void deadLetter(String id, String collectorType, String reason) {
        persistence()
                .persistBatch(
                        id,
                        List.of(LogEntry.of(
                                Instant.parse("2026-01-01T00:00:00Z"), "INFO", "GET /index.html 200 for " + id)),
                        collectorType,
                        Map.of("tenant", "tenant-of-" + id));
        persistence().markBatchFailed(id, new PermanentDeliveryException(reason));
    }
}
