package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchSender;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.Corruption;
import io.batchpersistence.DeliveryResult;
import io.batchpersistence.DeliveryResult.Outcome;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.FailureClassifier;
import io.batchpersistence.FailureClassifier.Classification;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.spi.BatchStore;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.spring.BatchDelivery;
import io.batchpersistence.spring.event.BatchCorruptedEvent;
import io.batchpersistence.spring.event.BatchDeadLetteredEvent;
import io.batchpersistence.spring.event.BatchExpiredEvent;
import io.batchpersistence.spring.event.CollectorOutageClosedEvent;
import io.batchpersistence.spring.event.CollectorOutageOpenedEvent;
import io.batchpersistence.spring.event.RecoveredBatchEvent;
import io.batchpersistence.test.InMemoryBatchStore;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.JRE;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.context.ApplicationContext;
import org.springframework.context.ApplicationEvent;
import org.springframework.context.ApplicationListener;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Lazy;
import org.springframework.context.event.EventListener;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpStatus;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.web.client.HttpClientErrorException;

class EventsAndDeliveryTest {

    private static final List<LogEntry> ENTRIES = List.of(LogEntry.of(Instant.EPOCH, "INFO", "hello"));

    private final ManualClock clock = new ManualClock(Instant.parse("2026-01-01T00:00:00Z"));
    private final InMemoryBatchStore store = new InMemoryBatchStore();

    /** With schedules that don't run within a test's time: each test starts its rounds itself. */
    private ApplicationContextRunner runner() {
        return new ApplicationContextRunner()
                .withConfiguration(AutoConfigurations.of(BatchPersistenceAutoConfiguration.class))
                .withPropertyValues(
                        "batch-persistence.recovery.interval=1h",
                        "batch-persistence.cleanup.interval=1h",
                        "batch-persistence.recovery.jitter=0",
                        "batch-persistence.max-recovery-retries=2")
                .withBean(Clock.class, () -> clock)
                .withBean(BatchStore.class, () -> store.isClosed() ? new InMemoryBatchStore() : store);
    }

    private static BatchState state(BatchPersistence persistence, String id) {
        return persistence.find(id).map(PersistedBatch::state).orElse(null);
    }

    // ------------------------------------------------------ RecoveredBatchEvent

    @Test
    void a_listener_that_acknowledges_delivers() {
        runner().withUserConfiguration(Listener.class).run(context -> {
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            context.getBean(Listener.class).reaction =
                    event -> assertThat(event.acknowledge()).isTrue();
            context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki", Map.of("tenant", "a"));
            await().until(() -> persistence.find("1").isEmpty());
            assertThat(persistence.stats().collector("loki").delivered()).isEqualTo(1);
            RecoveredBatchEvent event = context.getBean(Listener.class).events.get(0);
            assertThat(event.collectorType()).isEqualTo("loki");
            assertThat(event.attempt()).isEqualTo(1);
            assertThat(event.batch().entries()).isEqualTo(ENTRIES);
            assertThat(event.batch().context()).containsEntry("tenant", "a");
            assertThat(event.isSettled()).isTrue();
            assertThat(event.fail("too late")).isFalse();
        });
    }

    @Test
    void a_listener_that_throws_fails_the_attempt() {
        runner().withUserConfiguration(Listener.class).run(context -> {
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            context.getBean(Listener.class).reaction = event -> {
                throw new IOException("connection refused");
            };
            context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
            await().until(() -> persistence.find("1").orElseThrow().retryCount() == 1);
            PersistedBatch batch = persistence.find("1").orElseThrow();
            assertThat(batch.state()).isEqualTo(BatchState.PENDING);
            // The checked exception itself, not Spring's wrapper.
            assertThat(batch.failureReason()).isEqualTo("java.io.IOException: connection refused");
            assertThat(batch.nextAttemptAt()).isEqualTo(clock.instant().plusSeconds(1));
        });
    }

    @Test
    void a_listener_that_throws_after_it_acknowledged_has_delivered() {
        runner().withUserConfiguration(Listener.class).run(context -> {
            context.getBean(Listener.class).reaction = event -> {
                event.acknowledge();
                throw new IllegalStateException("too late");
            };
            context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            await().until(() -> persistence.stats().collector("loki").delivered() == 1);
            assertThat(persistence.stats().collector("loki").pending()).isZero();
        });
    }

    @Test
    void a_listener_may_settle_later_from_another_thread() {
        runner().withUserConfiguration(Listener.class).run(context -> {
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            Listener listener = context.getBean(Listener.class);
            context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
            await().until(() -> !listener.events.isEmpty());
            assertThat(state(persistence, "1")).isEqualTo(BatchState.IN_FLIGHT);
            Thread later = new Thread(() -> listener.events.get(0).acknowledge());
            later.start();
            later.join();
            assertThat(persistence.find("1")).isEmpty();
        });
    }

    @Test
    void a_listener_that_only_looks_deletes_nothing_and_the_batch_times_out() {
        runner().withUserConfiguration(Listener.class).run(context -> {
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            Listener listener = context.getBean(Listener.class);
            context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
            await().until(() -> !listener.events.isEmpty());
            assertThat(state(persistence, "1")).isEqualTo(BatchState.IN_FLIGHT);
            clock.advance(Duration.ofMinutes(5).plusMillis(1));
            persistence.recover();
            PersistedBatch batch = persistence.find("1").orElseThrow();
            assertThat(batch.retryCount()).isEqualTo(1);
            assertThat(batch.failureReason()).contains("timed out");
            // Late, but the collector does have the batch.
            assertThat(listener.events.get(0).acknowledge()).isTrue();
            assertThat(persistence.find("1")).isEmpty();
        });
    }

    @Test
    void reject_makes_a_dead_letter_and_retry_after_is_honoured() {
        runner().withUserConfiguration(Listener.class).run(context -> {
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            context.getBean(Listener.class).reaction = event -> {
                if (event.batch().id().equals("bad")) {
                    event.reject("malformed");
                } else {
                    event.retryAfter(Duration.ofMinutes(3), "429");
                }
            };
            context.getBean(BatchDelivery.class).deliverAsync("bad", ENTRIES, "a");
            context.getBean(BatchDelivery.class).deliverAsync("busy", ENTRIES, "b");
            await().until(() -> state(persistence, "bad") == BatchState.DEAD);
            await().until(() -> state(persistence, "busy") == BatchState.PENDING);
            assertThat(persistence.find("busy").orElseThrow().nextAttemptAt())
                    .isAfterOrEqualTo(clock.instant().plus(Duration.ofMinutes(3)));
        });
    }

    @Test
    void without_a_listener_nothing_is_attempted_and_nothing_burnt() {
        // Listeners for any event don't count: Boot itself registers some.
        runner().withBean("audit", CatchAll.class).run(context -> {
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
            for (int i = 0; i < 20; i++) {
                clock.advance(Duration.ofMinutes(10));
                persistence.recover();
            }
            PersistedBatch batch = persistence.find("1").orElseThrow();
            assertThat(batch.state()).isEqualTo(BatchState.PENDING);
            assertThat(batch.retryCount()).isZero();
            assertThat(((BatchPersistenceEngine) persistence)
                            .lanes()
                            .get("loki")
                            .unhandled())
                    .isTrue();
        });
    }

    @Test
    void every_way_to_listen_is_seen() {
        for (Class<?> way :
                List.of(Listener.class, Conditional.class, ListenerBean.class, LambdaBean.class, LazyBean.class)) {
            runner().withUserConfiguration(way)
                    .run(context -> assertThat(
                                    context.getBean(RecoveryTargets.class).find("loki"))
                            .as(way.getSimpleName())
                            .isNotNull());
            // Events also arrive in a parent context.
            runner().withUserConfiguration(way)
                    .run(parent -> new ApplicationContextRunner()
                            .withParent(parent.getSourceApplicationContext())
                            .run(context -> assertThat(
                                            new RecoveryTargets(context.getSourceApplicationContext(), type -> null)
                                                    .find("loki"))
                                    .as("%s, in the parent", way.getSimpleName())
                                    .isNotNull()));
        }
        runner().run(context -> {
            RecoveryTargets targets = context.getBean(RecoveryTargets.class);
            assertThat(targets.find("loki")).isNull();
            context.getSourceApplicationContext().addApplicationListener(new ListenerBean.OwnListener());
            assertThat(targets.find("loki")).as("registered by hand, later").isNotNull();
        });
    }

    interface Reaction {
        void to(RecoveredBatchEvent event) throws Exception;
    }

    @Configuration(proxyBeanMethods = false)
    static class Listener {
        final List<RecoveredBatchEvent> events = new CopyOnWriteArrayList<>();
        volatile Reaction reaction = event -> {};

        @EventListener
        void on(RecoveredBatchEvent event) throws Exception {
            events.add(event);
            reaction.to(event);
        }
    }

    @Configuration(proxyBeanMethods = false)
    static class Conditional {
        @EventListener(condition = "#event.collectorType() == 'loki'")
        void on(RecoveredBatchEvent event) {}
    }

    @Configuration(proxyBeanMethods = false)
    static class ListenerBean {
        @Bean
        OwnListener ownListener() {
            return new OwnListener();
        }

        static class OwnListener implements ApplicationListener<RecoveredBatchEvent> {
            @Override
            public void onApplicationEvent(RecoveredBatchEvent event) {}
        }
    }

    @Configuration(proxyBeanMethods = false)
    static class LambdaBean {
        @Bean
        ApplicationListener<RecoveredBatchEvent> lambda() {
            return event -> {};
        }
    }

    @Configuration(proxyBeanMethods = false)
    static class LazyBean {
        @Bean
        @Lazy
        ListenerBean.OwnListener lazy() {
            return new ListenerBean.OwnListener();
        }
    }

    static class CatchAll implements ApplicationListener<ApplicationEvent> {
        @Override
        public void onApplicationEvent(ApplicationEvent event) {}

        @EventListener
        void any(Object event) {}
    }

    // ------------------------------------------------------------ other events

    @Test
    void batches_given_up_are_announced_and_a_throwing_listener_does_no_harm() {
        store.append(new NewBatch("lost", "loki", ENTRIES, Map.of(), clock.instant(), clock.instant()))
                .join();
        store.corrupt("lost", new Corruption(Path.of("segment-1"), 1, 2, "bad checksum", "lost", "loki", 1, null));
        runner().withUserConfiguration(GivenUp.class).run(context -> {
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            GivenUp givenUp = context.getBean(GivenUp.class);
            await().untilAsserted(() ->
                    assertThat(givenUp.corrupted).as("found while opening").hasSize(1));
            persistence.persistBatch("dead", ENTRIES, "loki");
            persistence.markBatchFailed("dead", new PermanentDeliveryException("malformed"));
            await().untilAsserted(() -> assertThat(givenUp.dead).containsExactly("dead"));
            persistence.persistBatch("old", ENTRIES, "loki");
            persistence.releaseBatch("old");
            clock.advance(Duration.ofHours(25));
            persistence.recover();
            clock.advance(Duration.ofSeconds(1));
            assertThat(persistence.cleanup()).isEqualTo(1);
            await().untilAsserted(() -> assertThat(givenUp.expired).containsExactly("old"));
        });
    }

    @Configuration(proxyBeanMethods = false)
    static class GivenUp {
        final List<String> dead = new CopyOnWriteArrayList<>();
        final List<String> expired = new CopyOnWriteArrayList<>();
        final List<Corruption> corrupted = new CopyOnWriteArrayList<>();

        @EventListener
        void dead(BatchDeadLetteredEvent event) {
            dead.add(event.batch().id());
            throw new IllegalStateException("on purpose");
        }

        @EventListener
        void expired(BatchExpiredEvent event) {
            expired.add(event.batch().id());
        }

        @EventListener
        void corrupted(BatchCorruptedEvent event) {
            corrupted.add(event.damage());
        }
    }

    // ---------------------------------------------------------- BatchDelivery

    private static DeliveryResult deliver(ApplicationContext context, String id, String collectorType) {
        return context.getBean(BatchDelivery.class).deliver(id, ENTRIES, collectorType);
    }

    private ApplicationContextRunner sending(BatchSender sender) {
        return runner().withBean("loki", BatchSender.class, () -> sender);
    }

    @Test
    void deliver_sends_what_it_persisted_and_marks_it() {
        AtomicReference<PersistedBatch> sent = new AtomicReference<>();
        sending(batch -> {
                    assertThat(store.find(batch.id()))
                            .as("persisted before it is sent")
                            .isPresent();
                    sent.set(batch);
                })
                .run(context -> {
                    DeliveryResult result =
                            context.getBean(BatchDelivery.class).deliver("1", ENTRIES, "loki", Map.of("tenant", "a"));
                    assertThat(result).isEqualTo(new DeliveryResult(Outcome.DELIVERED, null));
                    assertThat(result.isDelivered()).isTrue();
                    assertThat(store.find("1")).isEmpty();
                    assertThat(sent.get().attempt()).isEqualTo(1);
                    assertThat(sent.get().context()).containsEntry("tenant", "a");
                });
    }

    @Test
    void what_could_not_be_sent_is_pending_with_its_reason() {
        IOException refused = new IOException("refused");
        sending(batch -> {
                    throw refused;
                })
                .run(context -> {
                    DeliveryResult result = context.getBean(BatchDelivery.class).deliver("1", ENTRIES, "loki");
                    assertThat(result).isEqualTo(new DeliveryResult(Outcome.PENDING, refused));
                    assertThat(store.find("1").orElseThrow().failureReason()).contains("refused");
                });
    }

    @Test
    void the_senders_two_special_exceptions_and_errors_are_honoured() {
        AtomicReference<Throwable> next = new AtomicReference<>();
        sending(batch -> {
                    if (next.get() instanceof Error error) {
                        throw error;
                    }
                    throw (Exception) next.get();
                })
                .run(context -> {
                    BatchDelivery delivery = context.getBean(BatchDelivery.class);
                    next.set(new PermanentDeliveryException("malformed"));
                    assertThat(delivery.deliver("1", ENTRIES, "loki").outcome()).isEqualTo(Outcome.DEAD);
                    next.set(new RetryAfterException(Duration.ofMinutes(7), "429"));
                    assertThat(delivery.deliver("2", ENTRIES, "loki").outcome()).isEqualTo(Outcome.PENDING);
                    assertThat(store.find("2").orElseThrow().nextAttemptAt())
                            .isAfterOrEqualTo(clock.instant().plus(Duration.ofMinutes(7)));
                });
        runner().withBean("other", BatchSender.class, () -> batch -> {
                    throw new StackOverflowError("on purpose");
                })
                .run(context ->
                        assertThat(deliver(context, "3", "other").failure()).isInstanceOf(StackOverflowError.class));
    }

    @Test
    void an_interrupted_sender_leaves_the_thread_interrupted() {
        sending(batch -> {
                    throw new InterruptedException();
                })
                .run(context -> {
                    assertThat(deliver(context, "1", "loki").outcome()).isEqualTo(Outcome.PENDING);
                    assertThat(Thread.interrupted()).isTrue();
                });
    }

    @Test
    void only_a_batch_not_persisted_is_thrown() {
        sending(batch -> {}).run(context -> {
            BatchDelivery delivery = context.getBean(BatchDelivery.class);
            context.getBean(BatchPersistence.class).persistBatch("1", ENTRIES, "loki");
            assertThatThrownBy(() -> delivery.deliver("1", ENTRIES, "loki"))
                    .isInstanceOf(DuplicateBatchException.class);
            assertThatThrownBy(() -> delivery.deliverAsync(" ", ENTRIES, "loki"))
                    .isInstanceOf(IllegalArgumentException.class);
        });
    }

    @Test
    void in_an_outage_the_sender_is_left_alone_and_no_retry_is_burnt() {
        AtomicReference<Integer> calls = new AtomicReference<>(0);
        sending(batch -> {
                    calls.set(calls.get() + 1);
                    throw new IOException("refused");
                })
                .run(context -> {
                    BatchDelivery delivery = context.getBean(BatchDelivery.class);
                    for (int i = 0; i < 3; i++) {
                        delivery.deliver("down-" + i, ENTRIES, "loki");
                    }
                    assertThat(calls).hasValue(3);
                    assertThat(delivery.deliver("next", ENTRIES, "loki"))
                            .isEqualTo(new DeliveryResult(Outcome.PENDING, null));
                    assertThat(calls).hasValue(3);
                    assertThat(store.find("next").orElseThrow().retryCount()).isZero();
                });
    }

    @Test
    void disabled_delivery_sends_or_throws() {
        ApplicationContextRunner disabled = new ApplicationContextRunner()
                .withConfiguration(AutoConfigurations.of(BatchPersistenceAutoConfiguration.class))
                .withPropertyValues("batch-persistence.enabled=false");
        List<String> sent = new CopyOnWriteArrayList<>();
        disabled.withBean("loki", BatchSender.class, () -> batch -> {
                    if (batch.id().equals("bad")) {
                        throw new IOException("refused");
                    }
                    sent.add(batch.id());
                })
                .run(context -> {
                    BatchDelivery delivery = context.getBean(BatchDelivery.class);
                    assertThat(delivery.deliver("1", ENTRIES, "loki").isDelivered())
                            .isTrue();
                    delivery.deliverAsync("2", ENTRIES, "loki");
                    assertThat(sent).containsExactly("1", "2");
                    assertThatThrownBy(() -> delivery.deliver("bad", ENTRIES, "loki"))
                            .isInstanceOf(BatchPersistenceException.class)
                            .hasMessageContaining("neither sent nor kept");
                    assertThatThrownBy(() -> delivery.deliverAsync("3", ENTRIES, "no one"))
                            .hasMessageContaining("no BatchSender for the collector type 'no one'");
                });
    }

    @Configuration(proxyBeanMethods = false)
    static class OutageListener {
        final List<Object> outages = new CopyOnWriteArrayList<>();

        @EventListener
        void opened(CollectorOutageOpenedEvent event) {
            outages.add(event.outage());
            throw new IllegalStateException("bad listener");
        }

        @EventListener
        void closed(CollectorOutageClosedEvent event) {
            outages.add(event.outage());
        }
    }

    @Test
    void outages_are_events() {
        sending(batch -> {
                    throw new IOException("refused");
                })
                .withUserConfiguration(OutageListener.class)
                .run(context -> {
                    BatchPersistence persistence = context.getBean(BatchPersistence.class);
                    persistence.persistBatch("up", ENTRIES, "loki");
                    for (int i = 0; i < 3; i++) {
                        context.getBean(BatchDelivery.class).deliver("down-" + i, ENTRIES, "loki");
                    }
                    Instant since = clock.instant();
                    clock.advance(Duration.ofSeconds(10));
                    persistence.markBatchSuccess("up");
                    await().untilAsserted(() -> assertThat(context.getBean(OutageListener.class).outages)
                            .containsExactly(
                                    new CollectorOutage("loki", since, null, false, 0, "java.io.IOException: refused"),
                                    new CollectorOutage("loki", since, clock.instant(), true, 0, null)));
                });
    }

    @Test
    void an_http_collectors_answers_are_understood() {
        sending(batch -> {
                    throw HttpClientErrorException.create(
                            HttpStatus.BAD_REQUEST, "", new HttpHeaders(), new byte[0], StandardCharsets.UTF_8);
                })
                .run(context ->
                        assertThat(deliver(context, "1", "loki").outcome()).isEqualTo(Outcome.DEAD));
    }

    @Test
    void the_applications_own_classifier_takes_the_place_of_ours() {
        sending(batch -> {
                    throw new IOException("refused");
                })
                .withBean(FailureClassifier.class, () -> failure -> Classification.PERMANENT)
                .run(context ->
                        assertThat(deliver(context, "1", "loki").outcome()).isEqualTo(Outcome.DEAD));
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void batches_are_sent_on_virtual_threads_where_the_application_wants_them(boolean virtual) {
        AtomicReference<Thread> thread = new AtomicReference<>();
        AtomicReference<String> group = new AtomicReference<>();
        CountDownLatch sent = new CountDownLatch(1);
        sending(batch -> {
                    thread.set(Thread.currentThread());
                    // A terminated thread has no thread group, so the name is read now.
                    group.set(Thread.currentThread().getThreadGroup().getName());
                    sent.countDown();
                })
                .withPropertyValues("spring.threads.virtual.enabled=" + virtual)
                .run(context -> {
                    context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
                    assertThat(sent.await(20, TimeUnit.SECONDS)).isTrue();
                    assertThat(thread.get().getName()).startsWith("batch-persistence-");
                    assertThat(thread.get().isDaemon()).isTrue();
                    // Thread.isVirtual() needs Java 21; all virtual threads are in this group.
                    boolean isVirtual = "VirtualThreads".equals(group.get());
                    assertThat(isVirtual).isEqualTo(virtual && JRE.currentJre().compareTo(JRE.JAVA_21) >= 0);
                });
    }

    /**
     * With devtools the application's class loader is a new one after each restart, and the thread that creates these
     * threads may have another one.
     */
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void threads_that_send_have_the_applications_class_loader_and_nothing_of_the_request_that_needed_them_first(
            boolean virtual) {
        ClassLoader application = new URLClassLoader(new URL[0], getClass().getClassLoader());
        InheritableThreadLocal<String> user = new InheritableThreadLocal<>();
        AtomicReference<ClassLoader> loader = new AtomicReference<>();
        AtomicReference<String> actsFor = new AtomicReference<>();
        CountDownLatch sent = new CountDownLatch(1);
        sending(batch -> {
                    loader.set(Thread.currentThread().getContextClassLoader());
                    actsFor.set(String.valueOf(user.get()));
                    sent.countDown();
                })
                .withClassLoader(application)
                .withPropertyValues("spring.threads.virtual.enabled=" + virtual)
                .run(context -> {
                    Thread request = Thread.currentThread();
                    ClassLoader before = request.getContextClassLoader();
                    user.set("alice");
                    request.setContextClassLoader(new URLClassLoader(new URL[0]));
                    try {
                        context.getBean(BatchDelivery.class).deliverAsync("1", ENTRIES, "loki");
                        assertThat(sent.await(20, TimeUnit.SECONDS)).isTrue();
                        ThreadPoolTaskScheduler scheduler =
                                context.getBean("batchPersistenceScheduler", ThreadPoolTaskScheduler.class);
                        Callable<List<Object>> look = () ->
                                List.of(Thread.currentThread().getContextClassLoader(), String.valueOf(user.get()));
                        assertThat(scheduler.submit(look).get()).containsExactly(application, "null");
                    } finally {
                        user.remove();
                        request.setContextClassLoader(before);
                    }
                    assertThat(loader.get()).isSameAs(application);
                    assertThat(actsFor.get()).isEqualTo("null");
                });
    }
}
