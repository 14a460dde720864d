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

/** Who takes a batch: the sender of its collector type, else the listeners of {@link RecoveredBatchEvent}, else nobody. */
final class RecoveryTargets {

    private static final ResolvableType EVENT = ResolvableType.forClass(RecoveredBatchEvent.class);

    /** What listens to this listens to anything (Boot itself brings such listeners), and nobody sends batches from there. */
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
     * @param observer asked when a batch goes out, not before: what it needs may itself need batch persistence
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
            // How Spring passes on a checked exception of an @EventListener method: the reason is the exception within.
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
        // Events go on to the parents.
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

    /** Beans not created yet, and lambdas, whose event type only their bean definition knows. */
    private boolean hasListenerBean() {
        Boolean known = listenerBeans;
        if (known == null) {
            ResolvableType type =
                    ResolvableType.forClassWithGenerics(ApplicationListener.class, RecoveredBatchEvent.class);
            known = false;
            for (ApplicationContext current = context; current != null; current = current.getParent()) {
                known |= current.getBeanNamesForType(type, true, false).length > 0;
            }
            listenerBeans =
                    known; // bean definitions don't change any more, and looking through all of them takes a while
        }
        return known;
    }
}
