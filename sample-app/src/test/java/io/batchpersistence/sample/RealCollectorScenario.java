package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.CollectorStats;
import io.batchpersistence.spring.event.CollectorOutageClosedEvent;
import io.batchpersistence.spring.event.CollectorOutageOpenedEvent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.IntFunction;
import org.awaitility.core.ConditionFactory;

/**
 * A collector is killed while lines are shipped to it, more lines are written, the shipper is stopped and started, and
 * the collector is restarted on its data. In the end it has each line once: sent at least once, and deduplicated by id.
 */
final class RealCollectorScenario {

    private static final int BATCH = 100;
    private static final int BEFORE = 50 * BATCH;
    private static final int MEANWHILE = 30 * BATCH;
    private static final String[] FILES = {"shop.log", "gateway.log"};

    private final RealCollector collector;
    private final Path home;
    private final Random random = new Random(42);
    private final List<String> written = new ArrayList<>();

    /** Loki rejects lines older than a week, so this is the day on which the test runs. */
    private Instant time = Instant.now().minusSeconds(600);

    private long taken;

    private RealCollectorScenario(RealCollector collector, Path home) {
        this.collector = collector;
        this.home = home;
    }

    /** With a collector that is started and empty, and an empty directory; returns the lines that were sent. */
    static List<String> play(RealCollector collector, Path home) throws Exception {
        return new RealCollectorScenario(collector, home).play();
    }

    private List<String> play() throws Exception {
        String posted = lines(5, this::stamped);

        // Slowly enough that the collector is killed in the middle of it.
        try (RunningShipper shipper = start(20)) {
            write(BEFORE);
            eventually()
                    .untilAsserted(
                            () -> assertThat(numbers(shipper).delivered()).isGreaterThan(10));
            collector.kill();
            assertThat(numbers(shipper).delivered())
                    .as("batches before the kill")
                    .isLessThan(BEFORE / BATCH);

            write(MEANWHILE);
            assertThat(shipper.post("a request that is repeated", posted)).isEqualTo(202);
            seesAnOutage(shipper);
            allIsTaken(shipper);
            assertThat(numbers(shipper).pending() + numbers(shipper).inFlight())
                    .as("batches kept for later")
                    .isGreaterThan(MEANWHILE / BATCH);
            taken = shipper.taken();
        }

        try (RunningShipper shipper = start(100)) {
            write(MEANWHILE / 3);
            seesAnOutage(shipper);
            collector.start();
            eventually()
                    .untilAsserted(() -> assertThat(shipper.events(CollectorOutageClosedEvent.class))
                            .anyMatch(event -> event.outage().answered()));
            allIsTaken(shipper);
            CollectorStats numbers = allIsDelivered(shipper);
            assertThat(collector.count()).as("lines it has").isEqualTo(written.size());

            // Its batch is no longer held, so it is accepted and sent once more. The collector recognizes the lines.
            assertThat(shipper.post("a request that is repeated", posted)).isEqualTo(202);
            assertThat(allIsDelivered(shipper).delivered()).isEqualTo(numbers.delivered() + 1);
            assertThat(collector.count()).as("lines it has now").isEqualTo(written.size());
        }
        return written;
    }

    private RunningShipper start(int batchesPerSecond) throws Exception {
        return RunningShipper.start(
                collector,
                home,
                "--shipper.files=" + home.resolve("in/*.log"),
                "--shipper.batch-size=" + BATCH,
                "--batch-persistence.collectors." + collector.type() + ".recovery.max-rate=" + batchesPerSecond);
    }

    private static ConditionFactory eventually() {
        return await().atMost(Duration.ofMinutes(1)).pollInterval(Duration.ofMillis(20));
    }

    private CollectorStats numbers(RunningShipper shipper) {
        return shipper.numbers(collector.type());
    }

    /** An outage of the collector does not make the application unhealthy, but it is visible. */
    private void seesAnOutage(RunningShipper shipper) {
        eventually()
                .untilAsserted(() -> assertThat(shipper.events(CollectorOutageOpenedEvent.class))
                        .anyMatch(event -> event.outage().collectorType().equals(collector.type())));
        eventually()
                .untilAsserted(() -> assertThat(shipper.get("/actuator/health/batchPersistence"))
                        .contains("\"status\":\"DEGRADED\"", "\"lane\":\"OPEN\"", "\"outageSince\""));
    }

    private void allIsTaken(RunningShipper shipper) {
        eventually().untilAsserted(() -> assertThat(taken + shipper.taken()).isEqualTo(written.size()));
    }

    private CollectorStats allIsDelivered(RunningShipper shipper) {
        eventually()
                .untilAsserted(() -> assertThat(
                                numbers(shipper).pending() + numbers(shipper).inFlight())
                        .isZero());
        CollectorStats numbers = numbers(shipper);
        assertThat(numbers.isBalanced()).as("%s", numbers).isTrue();
        assertThat(numbers.dead()).as("dead letters").isZero();
        assertThat(numbers.delivered()).as("%s", numbers).isEqualTo(numbers.accepted());
        return numbers;
    }

    /** Two files in turn, chunk by chunk, as if two applications wrote them. */
    private void write(int count) throws Exception {
        Path directory = Files.createDirectories(home.resolve("in"));
        for (int i = 0; i < count; i += BATCH / 2) {
            Files.writeString(
                    directory.resolve(FILES[i / (BATCH / 2) % FILES.length]),
                    lines(BATCH / 2, this::line),
                    StandardOpenOption.CREATE,
                    StandardOpenOption.APPEND);
        }
    }

    private String lines(int count, IntFunction<String> maker) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < count; i++) {
            String line = maker.apply(written.size() + 1);
            written.add(line);
            text.append(line).append('\n');
        }
        return text.toString();
    }

    /** A line with a time of its own is identical whenever it is read. */
    private String stamped(int number) {
        time = time.plusNanos(1 + random.nextInt(50_000_000));
        return time + "  INFO 1 --- [nio-8080-exec-" + random.nextInt(10) + "] c.e.shop.OrderService : order " + number
                + " placed by customer " + random.nextInt(5_000) + " in " + random.nextInt(300) + " ms";
    }

    /** Lines like those of applications, web servers and stack traces; many of the latter are identical. */
    private String line(int number) {
        return switch (random.nextInt(10)) {
            case 0 ->
                "\tat com.example.shop.OrderService.place(OrderService.java:" + random.nextInt(20) + ") ~[shop.jar:?]";
            case 1 ->
                time + " ERROR 1 --- [nio-8080-exec-" + random.nextInt(10)
                        + "] c.e.shop.PaymentClient : payment of order " + number
                        + " failed: {\"code\":\"card_declined\",\"amount\":\"" + random.nextInt(900)
                        + ",00 \u20ac\"}";
            case 2 ->
                "[" + time + "] [warn] worker " + number + " of module proxy \u2013 no answer after "
                        + random.nextInt(30_000) + " ms, trying \\\\backend\\" + random.nextInt(9);
            case 3, 4, 5 ->
                "10.0." + random.nextInt(256) + "." + random.nextInt(256) + " - - \"GET /orders/" + number
                        + "?page=" + random.nextInt(20) + " HTTP/1.1\" 200 " + random.nextInt(90_000)
                        + " \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\"";
            default -> stamped(number);
        };
    }
}
