package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchSummary;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.Corruption;
import io.batchpersistence.spring.event.BatchCorruptedEvent;
import io.batchpersistence.spring.event.BatchDeadLetteredEvent;
import io.batchpersistence.spring.event.BatchEvictedEvent;
import io.batchpersistence.spring.event.BatchExpiredEvent;
import io.batchpersistence.spring.event.CollectorOutageClosedEvent;
import io.batchpersistence.spring.event.CollectorOutageOpenedEvent;
import org.springframework.context.ApplicationEventPublisher;

/** Publishes the engine's notifications as application events. */
final class BatchEventPublisher implements BatchListener {

    private final ApplicationEventPublisher publisher;

    BatchEventPublisher(ApplicationEventPublisher publisher) {
        this.publisher = publisher;
    }

    @Override
    public void onDeadLettered(BatchSummary batch) {
        publisher.publishEvent(new BatchDeadLetteredEvent(publisher, batch));
    }

    @Override
    public void onExpired(BatchSummary batch) {
        publisher.publishEvent(new BatchExpiredEvent(publisher, batch));
    }

    @Override
    public void onEvicted(BatchSummary batch) {
        publisher.publishEvent(new BatchEvictedEvent(publisher, batch));
    }

    @Override
    public void onCorrupted(Corruption damage) {
        publisher.publishEvent(new BatchCorruptedEvent(publisher, damage));
    }

    @Override
    public void onOutageOpened(CollectorOutage outage) {
        publisher.publishEvent(new CollectorOutageOpenedEvent(publisher, outage));
    }

    @Override
    public void onOutageClosed(CollectorOutage outage) {
        publisher.publishEvent(new CollectorOutageClosedEvent(publisher, outage));
    }
}
