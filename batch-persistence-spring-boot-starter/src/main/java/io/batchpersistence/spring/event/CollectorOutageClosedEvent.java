package io.batchpersistence.spring.event;

import io.batchpersistence.CollectorOutage;
import org.springframework.context.ApplicationEvent;

/**
 * An outage is over: the collector has answered, or nothing waits for it any more.
 *
 * <p>Published shortly afterwards by a thread that does nothing else, one event after the other; an exception of a
 * listener is logged and has no other effect.
 */
public final class CollectorOutageClosedEvent extends ApplicationEvent {

    private final transient CollectorOutage outage;

    /**
     * Creates an event for one outage.
     *
     * @param source the publisher of the event
     * @param outage the outage
     */
    public CollectorOutageClosedEvent(Object source, CollectorOutage outage) {
        super(source);
        this.outage = outage;
    }

    /**
     * Returns the outage.
     *
     * @return the outage, with its duration and the number of probes
     */
    public CollectorOutage outage() {
        return outage;
    }
}
