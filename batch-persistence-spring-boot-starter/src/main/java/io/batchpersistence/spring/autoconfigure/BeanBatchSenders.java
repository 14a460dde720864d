package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchSender;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.spring.BatchSenders;
import io.batchpersistence.spring.CollectorType;
import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;
import org.springframework.aop.framework.Advised;
import org.springframework.aop.framework.autoproxy.AutoProxyUtils;
import org.springframework.aop.scope.ScopedProxyUtils;
import org.springframework.aop.support.AopUtils;
import org.springframework.beans.factory.BeanFactoryUtils;
import org.springframework.beans.factory.ListableBeanFactory;
import org.springframework.beans.factory.SmartInitializingSingleton;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.beans.factory.config.SingletonBeanRegistry;
import org.springframework.core.annotation.AnnotatedElementUtils;
import org.springframework.scheduling.annotation.Async;
import org.springframework.scheduling.annotation.AsyncAnnotationAdvisor;
import org.springframework.util.ClassUtils;
import org.springframework.util.ReflectionUtils;

/**
 * Finds {@link BatchSender} beans by {@link CollectorType} or bean name. Looks at bean definitions only: a bean is
 * created when its first batch is sent, so that a sender may itself depend on beans that need batch persistence.
 */
final class BeanBatchSenders implements BatchSenders, SmartInitializingSingleton {

    private static final Method SEND = Objects.requireNonNull(
            ReflectionUtils.findMethod(BatchSender.class, "send", PersistedBatch.class), "BatchSender.send");

    private final ListableBeanFactory beans;
    private volatile @Nullable Map<String, BatchSender> senders;

    BeanBatchSenders(ListableBeanFactory beans) {
        this.beans = beans;
    }

    /**
     * Fails the start-up if two senders serve the same collector type, or if one returns before it has sent its
     * batches.
     */
    @Override
    public void afterSingletonsInstantiated() {
        senders();
    }

    private void refuseAsync(String name) {
        Class<?> type = beans instanceof ConfigurableListableBeanFactory factory
                ? AutoProxyUtils.determineTargetClass(factory, name)
                : beans.getType(name, false);
        boolean async = type != null && isAsync(ClassUtils.getUserClass(type));
        // Made asynchronous by another annotation, or by an advisor that the application configured.
        if (!async
                && beans instanceof SingletonBeanRegistry registry
                && registry.getSingleton(name) instanceof Advised proxy) {
            Class<?> target = AopUtils.getTargetClass(proxy);
            Method send = ClassUtils.getMostSpecificMethod(SEND, target);
            async = Arrays.stream(proxy.getAdvisors())
                    .anyMatch(advisor -> advisor instanceof AsyncAnnotationAdvisor known
                            && known.getPointcut().getMethodMatcher().matches(send, target));
        }
        if (async) {
            throw new AsyncBatchSenderException(name);
        }
    }

    private static boolean isAsync(Class<?> type) {
        return AnnotatedElementUtils.hasAnnotation(type, Async.class)
                || AnnotatedElementUtils.hasAnnotation(ClassUtils.getMostSpecificMethod(SEND, type), Async.class);
    }

    @Override
    public @Nullable BatchSender find(String collectorType) {
        return senders().get(collectorType);
    }

    private Map<String, BatchSender> senders() {
        Map<String, BatchSender> known = senders;
        if (known == null) {
            known = look();
            // A race computes this twice at most, with the same result.
            senders = known;
        }
        return known;
    }

    private static void checkCollectorType(String type, String beanName) {
        try {
            NewBatch.checkedCollectorType(type);
        } catch (IllegalArgumentException e) {
            throw new IllegalStateException(
                    "The BatchSender bean '" + beanName + "' would never get a batch: its " + e.getMessage()
                            + ". Name another one in its @CollectorType",
                    e);
        }
    }

    private Map<String, BatchSender> look() {
        Map<String, String> names = new HashMap<>();
        for (String name : BeanFactoryUtils.beanNamesForTypeIncludingAncestors(beans, BatchSender.class, true, false)) {
            if (ScopedProxyUtils.isScopedTarget(name)) {
                // The list contains its proxy, too.
                continue;
            }
            refuseAsync(name);
            CollectorType annotation = beans.findAnnotationOnBean(name, CollectorType.class, false);
            for (String type : annotation != null ? annotation.value() : new String[] {name}) {
                checkCollectorType(type, name);
                String other = names.putIfAbsent(type, name);
                if (other != null) {
                    throw new DuplicateBatchSenderException(type, other, name);
                }
            }
        }
        Map<String, BatchSender> found = new HashMap<>();
        names.forEach((type, name) ->
                found.put(type, batch -> beans.getBean(name, BatchSender.class).send(batch)));
        return Map.copyOf(found);
    }
}
