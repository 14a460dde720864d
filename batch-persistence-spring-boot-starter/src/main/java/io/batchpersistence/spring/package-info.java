/**
 * The API for Spring Boot applications: {@link io.batchpersistence.spring.BatchDelivery} to hand over batches, {@link
 * io.batchpersistence.spring.CollectorType} to name the senders. Beans, properties and schedules come from {@code
 * autoconfigure}, events from {@code event}, health, metrics and the endpoint from {@code actuate}.
 *
 * <p>A batch of a collector type is sent, both here and in recovery, by the {@link io.batchpersistence.BatchSender}
 * bean of that type; if there is none, by the listeners of {@link
 * io.batchpersistence.spring.event.RecoveredBatchEvent}; if there are no listeners either, it is kept, without counting
 * attempts, until its TTL.
 */
@NullMarked
package io.batchpersistence.spring;

import org.jspecify.annotations.NullMarked;
