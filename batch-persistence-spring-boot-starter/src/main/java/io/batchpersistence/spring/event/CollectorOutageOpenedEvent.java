package io.batchpersistence.spring.event;

import io.batchpersistence.CollectorOutage;
import org.springframework.context.ApplicationEvent;

/**
 * A collector is taken to be down: it is only probed from now on, and nobody waits for it.
 *
 * <p>Published soon after the fact by a thread that does nothing else, one event after the other; what a listener throws is
 * logged and goes no further.
 */
public final class CollectorOutageOpenedEvent extends ApplicationEvent {

    private final transient CollectorOutage outage;

    /**
     * For one outage.
     *
     * @param source who publishes it
     * @param outage what is known of it
     */
    public CollectorOutageOpenedEvent(Object source, CollectorOutage outage) {
        super(source);
        this.outage = outage;
    }

    /**
     * The outage.
     *
     * @return with the reason
     */
    public CollectorOutage outage() {
        return outage;
    }
}
