package io.batchpersistence.spring.event;

import io.batchpersistence.CollectorOutage;
import org.springframework.context.ApplicationEvent;

/**
 * A collector was marked down: from now on it is only probed, and no send waits for it.
 *
 * <p>Published shortly afterwards by a thread that does nothing else, one event after the other; an exception of a
 * listener is logged and has no other effect.
 */
public final class CollectorOutageOpenedEvent extends ApplicationEvent {

    private final transient CollectorOutage outage;

    /**
     * Creates an event for one outage.
     *
     * @param source the publisher of the event
     * @param outage the outage
     */
    public CollectorOutageOpenedEvent(Object source, CollectorOutage outage) {
        super(source);
        this.outage = outage;
    }

    /**
     * Returns the outage.
     *
     * @return the outage, with its cause
     */
    public CollectorOutage outage() {
        return outage;
    }
}
