package io.batchpersistence.spring.event;

import io.batchpersistence.Corruption;
import org.springframework.context.ApplicationEvent;

/**
 * Bytes on disk were damaged and have been set aside. Damage found while the application starts is announced once it has
 * started.
 *
 * <p>Published soon after the fact by a thread that does nothing else, one event after the other; what a listener throws is
 * logged and goes no further.
 */
public final class BatchCorruptedEvent extends ApplicationEvent {

    private final transient Corruption damage;

    /**
     * For one damaged place.
     *
     * @param source who publishes it
     * @param damage what was found
     */
    public BatchCorruptedEvent(Object source, Corruption damage) {
        super(source);
        this.damage = damage;
    }

    /**
     * The damage.
     *
     * @return where, why, and what is known of the batches in it
     */
    public Corruption damage() {
        return damage;
    }
}
