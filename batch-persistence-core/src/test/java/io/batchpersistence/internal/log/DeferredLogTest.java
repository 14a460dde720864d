package io.batchpersistence.internal.log;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.UnsynchronizedAppenderBase;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;
import org.slf4j.LoggerFactory;

class DeferredLogTest {

    private final Logger logger = (Logger) LoggerFactory.getLogger("io.batchpersistence.internal.log");
    private final CountDownLatch writing = new CountDownLatch(1);
    private final CountDownLatch released = new CountDownLatch(1);
    private final List<String> lines = new CopyOnWriteArrayList<>();

    private final UnsynchronizedAppenderBase<ILoggingEvent> appender = new UnsynchronizedAppenderBase<>() {
        @Override
        protected void append(ILoggingEvent event) {
            lines.add(event.getFormattedMessage());
            writing.countDown();
            try {
                released.await();
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }
    };

    private static void logOnStoreThread(int from, int to) throws InterruptedException {
        Thread thread = new Thread(() -> {
            DeferredLog.storeThread();
            for (int i = from; i < to; i++) {
                LogSanitizer.logger(DeferredLogTest.class).warn("line {}", i);
            }
        });
        thread.start();
        thread.join();
    }

    @Test
    void a_flush_while_an_appender_hangs_is_no_line_that_was_left_out() throws InterruptedException {
        logger.setAdditive(false);
        logger.addAppender(appender);
        appender.start();
        try {
            logOnStoreThread(0, 1);
            writing.await();
            logOnStoreThread(1, 1 + 10_000 + 4);
            DeferredLog.flush(Duration.ofMillis(1));
            released.countDown();
            DeferredLog.flush(Duration.ofSeconds(60));
            logOnStoreThread(-1, 0);
            DeferredLog.flush(Duration.ofSeconds(60));
            assertThat(lines)
                    .hasSize(1 + 10_000 + 1 + 1)
                    .endsWith("line -1")
                    .contains("4 lines could not be written, since an appender takes too long");
        } finally {
            released.countDown();
            logger.detachAppender(appender);
            logger.setAdditive(true);
        }
    }
}
