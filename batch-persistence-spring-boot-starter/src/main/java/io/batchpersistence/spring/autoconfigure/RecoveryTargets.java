package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchSender;
import io.batchpersistence.RecoveredBatch;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.spring.BatchSenders;
import io.batchpersistence.spring.event.RecoveredBatchEvent;
import java.lang.reflect.UndeclaredThrowableException;
import java.util.ConcurrentModificationException;
import java.util.List;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.springframework.context.ApplicationContext;
import org.springframework.context.ApplicationEvent;
import org.springframework.context.ApplicationListener;
import org.springframework.context.event.GenericApplicationListener;
import org.springframework.context.event.GenericApplicationListenerAdapter;
import org.springframework.context.support.AbstractApplicationContext;
import org.springframework.core.ResolvableType;

/**
 * Chooses the target of a batch: the sender of its collector type, else the listeners of {@link RecoveredBatchEvent},
 * else none.
 */
final class RecoveryTargets {

    private static final ResolvableType EVENT = ResolvableType.forClass(RecoveredBatchEvent.class);

    /** A listener for this type listens to every event (Boot itself brings such listeners) and sends no batches. */
    private static final ResolvableType ANY_EVENT = ResolvableType.forClass(ApplicationEvent.class);

    private final ApplicationContext context;
    private final BatchSenders senders;
    private final Supplier<SendObserver> observer;
    private volatile @Nullable Boolean listenerBeans;
    private volatile boolean listeners;

    RecoveryTargets(ApplicationContext context, BatchSenders senders) {
        this(context, senders, () -> SendObserver.NONE);
    }

    /**
     * @param observer called when a batch is sent, not before: its dependencies may themselves need batch persistence
     */
    RecoveryTargets(ApplicationContext context, BatchSenders senders, Supplier<SendObserver> observer) {
        this.context = context;
        this.senders = senders;
        this.observer = observer;
    }

    @Nullable
    RecoveryTarget find(String collectorType) {
        BatchSender sender = senders.find(collectorType);
        if (sender != null) {
            return recovered -> observer.get().sending(sender).handOver(recovered);
        }
        return hasListener()
                ? recovered -> observer.get().settling(this::publish).handOver(recovered)
                : null;
    }

    private void publish(RecoveredBatch recovered) throws Exception {
        try {
            context.publishEvent(new RecoveredBatchEvent(context, recovered));
        } catch (UndeclaredThrowableException e) {
            // Spring wraps a checked exception of an @EventListener method; the failure reason is the inner exception.
            throw e.getCause() instanceof Exception cause ? cause : e;
        }
    }

    private boolean hasListener() {
        if (hasListenerBean()) {
            return true;
        }
        try {
            listeners = hasRegisteredListener(context);
        } catch (ConcurrentModificationException e) {
            // A listener is being registered on another thread; the next round sees it.
            return listeners;
        }
        return listeners;
    }

    /** {@code @EventListener} methods, and listeners registered by hand. */
    private static boolean hasRegisteredListener(@Nullable ApplicationContext context) {
        // Events are also published to the parent contexts.
        for (ApplicationContext current = context; current != null; current = current.getParent()) {
            if (current instanceof AbstractApplicationContext registry
                    && List.copyOf(registry.getApplicationListeners()).stream()
                            .anyMatch(RecoveryTargets::isForBatches)) {
                return true;
            }
        }
        return false;
    }

    private static boolean isForBatches(ApplicationListener<?> listener) {
        GenericApplicationListener generic = listener instanceof GenericApplicationListener known
                ? known
                : new GenericApplicationListenerAdapter(listener);
        return generic.supportsEventType(EVENT) && !generic.supportsEventType(ANY_EVENT);
    }

    /** Finds beans that are not created yet, and lambdas, whose event type only their bean definition knows. */
    private boolean hasListenerBean() {
        Boolean known = listenerBeans;
        if (known == null) {
            ResolvableType type =
                    ResolvableType.forClassWithGenerics(ApplicationListener.class, RecoveredBatchEvent.class);
            known = false;
            for (ApplicationContext current = context; current != null; current = current.getParent()) {
                known |= current.getBeanNamesForType(type, true, false).length > 0;
            }
            // Bean definitions don't change any more, and searching all of them takes a while.
            listenerBeans = known;
        }
        return known;
    }
}
