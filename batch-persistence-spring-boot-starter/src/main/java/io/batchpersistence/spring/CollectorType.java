package io.batchpersistence.spring;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * Names the collector types whose batches a {@link io.batchpersistence.BatchSender} bean sends. Put it on the bean's
 * class or on its {@code @Bean} method:
 *
 * <pre>{@code
 * @Component
 * @CollectorType("loki")
 * class LokiPush implements BatchSender { … }
 * }</pre>
 *
 * <p>A sender without this annotation serves the collector type that is exactly its bean name; the bean name of an
 * annotated sender is ignored. Two senders for one collector type fail the start-up. A {@code @Bean} method must
 * declare a return type that is a {@code BatchSender}.
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
