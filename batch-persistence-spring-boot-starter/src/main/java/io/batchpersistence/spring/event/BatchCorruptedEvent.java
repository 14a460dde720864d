package io.batchpersistence.spring.event;

import io.batchpersistence.Corruption;
import org.springframework.context.ApplicationEvent;

/**
 * Bytes on disk were damaged and have been set aside. Damage found while the application starts is reported once it has
 * started.
 *
 * <p>Published shortly afterwards by a thread that does nothing else, one event after the other; an exception of a
 * listener is logged and has no other effect.
 */
public final class BatchCorruptedEvent extends ApplicationEvent {

    private final transient Corruption damage;

    /**
     * Creates an event for one damaged place.
     *
     * @param source the publisher of the event
     * @param damage the damage that was found
     */
    public BatchCorruptedEvent(Object source, Corruption damage) {
        super(source);
        this.damage = damage;
    }

    /**
     * Returns the damage.
     *
     * @return its place, its cause, and what is known of the batches in it
     */
    public Corruption damage() {
        return damage;
    }
}
