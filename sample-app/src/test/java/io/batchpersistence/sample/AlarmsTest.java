package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.batchpersistence.BatchState;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.spring.event.BatchDeadLetteredEvent;
import io.batchpersistence.spring.event.BatchExpiredEvent;
import io.batchpersistence.spring.event.CollectorOutageClosedEvent;
import io.batchpersistence.spring.event.CollectorOutageOpenedEvent;
import io.batchpersistence.test.ManualClock;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.slf4j.LoggerFactory;

class AlarmsTest {

    private static final Instant THEN = Instant.parse("2026-03-01T12:00:00Z");

    private final ManualClock clock = new ManualClock(THEN);
    private final Alarms alarms = new Alarms(clock);
    private final Logger logger = (Logger) LoggerFactory.getLogger(Alarms.class);
    private final ListAppender<ILoggingEvent> appender = new ListAppender<>();

    @BeforeEach
    void listen() {
        appender.start();
        logger.setLevel(Level.INFO);
        logger.addAppender(appender);
        logger.setAdditive(false);
    }

    @AfterEach
    void stop() {
        logger.detachAppender(appender);
        logger.setLevel(null);
        logger.setAdditive(true);
    }

    private List<String> said() {
        return appender.list.stream().map(ILoggingEvent::getFormattedMessage).toList();
    }

    private static BatchSummary batch(String id, String collector, BatchState state) {
        return new BatchSummary(
                id, collector, state, THEN, THEN, null, 10, "answered 400: no", List.of(), Map.of(), 7, 100, 1);
    }

    @Test
    void tells_of_outages() {
        alarms.outageOpened(new CollectorOutageOpenedEvent(
                this, new CollectorOutage("loki", THEN, null, false, 0, "connection refused")));
        alarms.outageClosed(new CollectorOutageClosedEvent(
                this, new CollectorOutage("loki", THEN, THEN.plusSeconds(90), true, 7, null)));
        alarms.outageClosed(new CollectorOutageClosedEvent(
                this, new CollectorOutage("loki", THEN, THEN.plusSeconds(90), false, 7, null)));

        assertThat(said())
                .containsExactly(
                        "ALARM: loki is down (connection refused). Lines are kept; see to it before their batch_ttl is over",
                        "loki is back after 90 s");
    }

    @Test
    void leaves_outages_to_the_instance_that_found_them() {
        alarms.outageOpened(new CollectorOutageOpenedEvent(
                this, new CollectorOutage("loki", THEN, null, false, 0, "connection refused", false)));
        alarms.outageClosed(new CollectorOutageClosedEvent(
                this, new CollectorOutage("loki", THEN, THEN.plusSeconds(90), true, 7, null, false)));
        assertThat(said()).isEmpty();
    }

    @Test
    void is_not_louder_the_more_batches_there_are() {
        for (int i = 0; i < 100; i++) {
            alarms.deadLettered(new BatchDeadLetteredEvent(this, batch("b" + i, "loki", BatchState.DEAD)));
        }
        assertThat(said()).singleElement().asString().contains("loki", "'b0'", "answered 400: no");

        alarms.deadLettered(new BatchDeadLetteredEvent(this, batch("c", "elasticsearch", BatchState.DEAD)));
        alarms.expired(new BatchExpiredEvent(this, batch("d", "loki", BatchState.PENDING)));
        assertThat(said()).hasSize(3).last().asString().contains("7 lines for loki are LOST");

        clock.advance(Duration.ofMinutes(1));
        alarms.deadLettered(new BatchDeadLetteredEvent(this, batch("e", "loki", BatchState.DEAD)));
        assertThat(said()).hasSize(4).last().asString().contains("'e'");
    }
}
