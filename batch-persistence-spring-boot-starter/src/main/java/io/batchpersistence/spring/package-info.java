/**
 * What an application on Spring Boot uses: {@link io.batchpersistence.spring.BatchDelivery} to hand batches over, {@link
 * io.batchpersistence.spring.CollectorType} to name its senders. Beans, properties and schedules come from
 * {@code autoconfigure}, events from {@code event}, health, metrics and the endpoint from {@code actuate}.
 *
 * <p>Who takes a batch of a collector type, here as in recovery: the {@link io.batchpersistence.BatchSender} bean of that type;
 * where there is none, the listeners of {@link io.batchpersistence.spring.event.RecoveredBatchEvent}; where there are none
 * either, nobody: it waits, unharmed, until its TTL.
 */
@NullMarked
package io.batchpersistence.spring;

import org.jspecify.annotations.NullMarked;
