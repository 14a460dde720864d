package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchSender;
import io.batchpersistence.spring.BatchSenders;
import io.batchpersistence.spring.CollectorType;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.springframework.aop.scope.ScopedProxyUtils;
import org.springframework.beans.factory.BeanFactoryUtils;
import org.springframework.beans.factory.ListableBeanFactory;
import org.springframework.beans.factory.SmartInitializingSingleton;

/**
 * Finds {@link BatchSender} beans by {@link CollectorType} or bean name. Looks at bean definitions only: a bean is created when
 * its first batch goes out, so that a sender may itself use what needs batch persistence.
 */
final class BeanBatchSenders implements BatchSenders, SmartInitializingSingleton {

    private final ListableBeanFactory beans;
    private volatile @Nullable Map<String, BatchSender> senders;

    BeanBatchSenders(ListableBeanFactory beans) {
        this.beans = beans;
    }

    /** Fails the start-up if two senders want the same batches. */
    @Override
    public void afterSingletonsInstantiated() {
        senders();
    }

    @Override
    public @Nullable BatchSender find(String collectorType) {
        return senders().get(collectorType);
    }

    private Map<String, BatchSender> senders() {
        Map<String, BatchSender> known = senders;
        if (known == null) {
            known = look();
            senders = known; // twice at the worst, with the same result
        }
        return known;
    }

    private Map<String, BatchSender> look() {
        Map<String, String> names = new HashMap<>();
        for (String name : BeanFactoryUtils.beanNamesForTypeIncludingAncestors(beans, BatchSender.class, true, false)) {
            if (ScopedProxyUtils.isScopedTarget(name)) {
                continue; // its proxy is in the list, too
            }
            CollectorType annotation = beans.findAnnotationOnBean(name, CollectorType.class, false);
            for (String type : annotation != null ? annotation.value() : new String[] {name}) {
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
