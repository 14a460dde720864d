package io.batchpersistence.spring.event;

import io.batchpersistence.CollectorOutage;
import org.springframework.context.ApplicationEvent;

/**
 * An outage is over: the collector has answered, or nothing waits for it any more.
 *
 * <p>Published soon after the fact by a thread that does nothing else, one event after the other; what a listener throws is
 * logged and goes no further.
 */
public final class CollectorOutageClosedEvent extends ApplicationEvent {

    private final transient CollectorOutage outage;

    /**
     * For one outage.
     *
     * @param source who publishes it
     * @param outage what is known of it
     */
    public CollectorOutageClosedEvent(Object source, CollectorOutage outage) {
        super(source);
        this.outage = outage;
    }

    /**
     * The outage.
     *
     * @return with its length and the number of probes
     */
    public CollectorOutage outage() {
        return outage;
    }
}
