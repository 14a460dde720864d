package io.batchpersistence.spring;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * Says whose batches a {@link io.batchpersistence.BatchSender} bean sends. Goes on its class or on its {@code @Bean} method:
 *
 * <pre>{@code
 * @Component
 * @CollectorType("loki")
 * class LokiPush implements BatchSender { … }
 * }</pre>
 *
 * <p>A sender without this annotation is the one of the collector type that is exactly its bean name; one with it never goes
 * by its bean name. Two senders of one collector type are refused at start-up. For a {@code @Bean} method, the method's return
 * type must say that it is a {@code BatchSender}.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target({ElementType.TYPE, ElementType.METHOD})
public @interface CollectorType {

    /**
     * The collector types, exactly as given to {@code persistBatch}.
     *
     * @return one or more names
     */
    String[] value();
}
