package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchListener;
import io.batchpersistence.CollectorOutage;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.support.StaticListableBeanFactory;

class ListenerBridgeTest {

    private final List<String> told = new CopyOnWriteArrayList<>();
    private final CountDownLatch release = new CountDownLatch(1);

    private final BatchListener slow = new BatchListener() {
        @Override
        public void onOutageOpened(CollectorOutage outage) {
            try {
                release.await();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            told.add(outage.collectorType());
        }
    };

    private static CollectorOutage outage(String type) {
        return new CollectorOutage(type, Instant.EPOCH, null, false, 0, "down", true);
    }

    @Test
    void what_happens_later_is_not_told_before_what_happened_while_the_application_started() {
        ListenerBridge bridge = new ListenerBridge(
                new StaticListableBeanFactory(Map.of("slow", slow)).getBeanProvider(BatchListener.class), null);
        BatchListener engine = bridge.asListener();
        engine.onOutageOpened(outage("1"));
        engine.onOutageOpened(outage("2"));
        assertThat(told).isEmpty();
        bridge.start();
        // Does not wait for the listener, which is still busy with the first.
        engine.onOutageOpened(outage("3"));
        release.countDown();
        await().until(() -> told.size() == 3);
        engine.onOutageOpened(outage("4"));
        await().until(() -> told.size() == 4);
        assertThat(told).containsExactly("1", "2", "3", "4");
    }
}
