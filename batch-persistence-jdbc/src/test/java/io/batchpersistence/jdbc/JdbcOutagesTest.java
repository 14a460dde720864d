package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;

import io.batchpersistence.BatchListener;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.BatchState;
import io.batchpersistence.CollectorOutage;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.LaneStatus;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.RecoveryTarget;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import io.batchpersistence.spi.SharedOutages;
import io.batchpersistence.spi.SharedOutages.Outage;
import io.batchpersistence.test.ManualClock;
import io.batchpersistence.test.StepExecutor;
import java.io.IOException;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Function;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The shared knowledge of instances about collectors that are down. */
// Many rounds, and the machine may be busy.
@Timeout(value = 300, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class JdbcOutagesTest extends JdbcTestBase {

    private static final Duration SECOND = Duration.ofSeconds(1);

    private void due(JdbcBatchStore store, String id) {
        append(store, id);
        markPending(store, id);
    }

    @OnEachDatabase
    void an_outage_begins_once_and_is_known_to_all(Kind kind) {
        SharedOutages one = open(kind).sharedOutages();
        SharedOutages other = open().sharedOutages();
        assertThat(one.current()).isEmpty();
        assertThat(one.began("loki", Duration.ofSeconds(7), "503")).isTrue();
        pass(Duration.ofSeconds(2));
        assertThat(other.began("loki", SECOND, "refused")).isFalse();
        assertThat(other.began("other", SECOND, "refused")).isTrue();
        assertThat(other.current())
                .hasSize(2)
                .containsEntry("loki", new Outage(Duration.ofSeconds(2), Duration.ofSeconds(5), 0, "503"))
                .isEqualTo(one.current());
        pass(Duration.ofSeconds(6));
        assertThat(one.current().get("loki").untilProbe()).isEqualTo(SECOND.negated());
        assertThat(one.ended("loki")).isTrue();
        assertThat(other.ended("loki")).isFalse();
        assertThat(other.current()).containsOnlyKeys("other");
        assertThat(other.began("loki", SECOND, "again")).isTrue();
        assertThat(one.current().get("loki")).isEqualTo(new Outage(Duration.ZERO, SECOND, 0, "again"));
    }

    @OnEachDatabase
    void a_probe_is_given_to_one_when_it_is_due_and_there_is_something_to_send(Kind kind) {
        JdbcBatchStore store = open(kind);
        SharedOutages one = store.sharedOutages();
        SharedOutages other = open().sharedOutages();
        assertThat(one.takeProbe("loki", TIMEOUT)).isEqualTo(SharedOutages.NOT_DOWN);
        one.began("loki", SECOND, "503");
        due(store, "a");
        assertThat(one.takeProbe("loki", TIMEOUT)).isEqualTo(SharedOutages.NOT_DUE);
        pass(SECOND);
        assertThat(claim(store)).containsExactly("a");
        assertThat(one.takeProbe("loki", TIMEOUT)).as("in flight").isEqualTo(SharedOutages.NOTHING_TO_SEND);
        markPending(store, "a");
        assertThat(other.takeProbe("loki", TIMEOUT)).isEqualTo(1);
        assertThat(one.takeProbe("loki", TIMEOUT)).isEqualTo(SharedOutages.NOT_DUE);
        assertThat(one.current().get("loki")).isEqualTo(new Outage(SECOND, TIMEOUT, 1, "503"));

        other.nextProbe("loki", 1, Duration.ofSeconds(2));
        pass(Duration.ofMillis(1_999));
        assertThat(one.takeProbe("loki", TIMEOUT)).isEqualTo(SharedOutages.NOT_DUE);
        pass(Duration.ofMillis(1));
        assertThat(one.takeProbe("loki", TIMEOUT)).isEqualTo(2);
        assertThat(other.takeProbe("else", TIMEOUT)).isEqualTo(SharedOutages.NOT_DOWN);
    }

    @OnEachDatabase
    void a_probe_of_which_nothing_is_heard_is_given_up_after_its_timeout(Kind kind) {
        JdbcBatchStore store = open(kind);
        SharedOutages killed = store.sharedOutages();
        SharedOutages other = open().sharedOutages();
        due(store, "a");
        killed.began("loki", Duration.ZERO, "503");
        assertThat(killed.takeProbe("loki", TIMEOUT)).isEqualTo(1);
        pass(TIMEOUT.minusMillis(1));
        assertThat(other.takeProbe("loki", TIMEOUT)).isEqualTo(SharedOutages.NOT_DUE);
        pass(Duration.ofMillis(1));
        assertThat(other.takeProbe("loki", TIMEOUT)).isEqualTo(2);

        killed.nextProbe("loki", 1, Duration.ZERO);
        assertThat(killed.takeProbe("loki", TIMEOUT)).as("it comes too late").isEqualTo(SharedOutages.NOT_DUE);
        killed.nextProbe("loki", SharedOutages.ANY_PROBE, Duration.ZERO);
        assertThat(killed.takeProbe("loki", TIMEOUT))
                .as("asked for by an operator")
                .isEqualTo(3);
    }

    @OnEachDatabase
    void of_many_that_come_at_once_one_begins_one_probes_and_one_ends(Kind kind) throws Exception {
        on(kind);
        List<JdbcBatchStore> stores = List.of(open(), open(), open());
        due(stores.get(0), "a");
        for (int round = 1; round <= 20; round++) {
            assertThat(together(stores, each -> each.began("loki", Duration.ZERO, "503")))
                    .filteredOn(began -> began)
                    .hasSize(1);
            for (int number = 1; number <= 3; number++) {
                assertThat(together(stores, each -> each.takeProbe("loki", TIMEOUT)))
                        .filteredOn(probe -> probe != SharedOutages.NOT_DUE)
                        .containsExactly(number);
                stores.get(1).sharedOutages().nextProbe("loki", number, Duration.ZERO);
            }
            assertThat(together(stores, each -> each.ended("loki")))
                    .filteredOn(ended -> ended)
                    .hasSize(1);
        }
    }

    /** Two threads for each instance. */
    private static <T> List<T> together(List<JdbcBatchStore> stores, Function<SharedOutages, T> act) throws Exception {
        return together(
                2 * stores.size(),
                thread -> act.apply(stores.get(thread % stores.size()).sharedOutages()));
    }

    @OnEachDatabase
    void clocks_that_are_wrong_do_not_matter(Kind kind) {
        on(kind);
        ManualClock wrong = new ManualClock(clock.instant().plus(Duration.ofHours(3)));
        SharedOutages ahead =
                open(database.pool(), options -> options.clock(wrong)).sharedOutages();
        JdbcBatchStore store = open();
        SharedOutages right = store.sharedOutages();
        due(store, "a");
        ahead.began("loki", Duration.ofSeconds(10), "503");
        pass(Duration.ofSeconds(4));
        assertThat(right.current())
                .isEqualTo(ahead.current())
                .containsEntry("loki", new Outage(Duration.ofSeconds(4), Duration.ofSeconds(6), 0, "503"));
        pass(Duration.ofSeconds(6));
        assertThat(right.takeProbe("loki", TIMEOUT)).isEqualTo(1);
        assertThat(ahead.takeProbe("loki", TIMEOUT)).isEqualTo(SharedOutages.NOT_DUE);
    }

    @OnEachDatabase
    void any_name_and_any_reason_is_kept(Kind kind) {
        SharedOutages outages = open(kind).sharedOutages();
        List<String> types = List.of("Loki", "loki", "loki ", "a\\b\n\r\0", "ü €\uD83D\uDE00", "x".repeat(255));
        for (String type : types) {
            assertThat(outages.began(type, SECOND, "line 1\nline 2 \0 ü".repeat(5_000)))
                    .isTrue();
        }
        assertThat(outages.current()).containsOnlyKeys(types);
        assertThat(outages.current().get("loki").lastFailure()).startsWith("line 1\nline 2 \0 ü");
        for (String type : types) {
            outages.nextProbe(type, SharedOutages.ANY_PROBE, TIMEOUT);
            assertThat(outages.current().get(type).untilProbe()).isEqualTo(TIMEOUT);
            assertThat(outages.ended(type)).isTrue();
        }
        assertThat(outages.current()).isEmpty();
    }

    @OnEachDatabase
    void a_database_that_is_away_is_told_and_a_store_that_is_closed_is(Kind kind) {
        JdbcBatchStore store = openFaulty(kind);
        SharedOutages outages = store.sharedOutages();
        List<Runnable> calls = List.of(
                outages::current,
                () -> outages.began("loki", SECOND, "503"),
                () -> outages.takeProbe("loki", TIMEOUT),
                () -> outages.nextProbe("loki", 1, SECOND),
                () -> outages.ended("loki"));
        source.refuse();
        for (Runnable call : calls) {
            assertThatExceptionOfType(BatchPersistenceException.class).isThrownBy(call::run);
        }
        source.recover();
        source.afterCommit = FaultyDataSource.once(FaultyDataSource.lost());
        assertThatExceptionOfType(BatchPersistenceException.class)
                .as("no one knows")
                .isThrownBy(() -> outages.began("loki", SECOND, "503"));
        assertThat(outages.began("loki", SECOND, "503")).isFalse();
        store.close();
        for (Runnable call : calls) {
            assertThatIllegalStateException().isThrownBy(call::run);
        }
    }

    private final StepExecutor executor = new StepExecutor();
    private final List<Member> members = new ArrayList<>();
    private boolean down;

    /** An instance: an engine with its own store, clock and data source. */
    private final class Member {
        final ManualClock own;
        final FaultyDataSource source = new FaultyDataSource(database.pool());
        final JdbcBatchStore store;
        final BatchPersistenceEngine engine;
        final List<CollectorOutage> opened = new ArrayList<>();
        int sent;
        Runnable onSend = () -> {};

        Member(Duration wrong) {
            own = new ManualClock(clock.instant().plus(wrong));
            store = open(source, options -> options.clock(own));
            engine = BatchPersistenceEngine.builder(store)
                    .settings(type -> SETTINGS)
                    .targets(type -> RecoveryTarget.of(batch -> {
                        sent++;
                        onSend.run();
                        if (down) {
                            throw new IOException("connection refused");
                        }
                    }))
                    .listener(new BatchListener() {
                        @Override
                        public void onOutageOpened(CollectorOutage outage) {
                            opened.add(outage);
                        }
                    })
                    .executor(executor)
                    .random(new SplittableRandom(members.size()))
                    .clock(own)
                    .build();
            members.add(this);
        }

        void round() {
            engine.recover();
            executor.runAll();
        }

        LaneStatus.State state() {
            LaneStatus lane = engine.lanes().get("loki");
            return lane == null ? LaneStatus.State.CLOSED : lane.state();
        }
    }

    private static final CollectorSettings SETTINGS = new CollectorSettings(
            TIMEOUT,
            Duration.ofDays(1),
            Duration.ofDays(1),
            new RecoveryPolicy(SECOND, 2, Duration.ofSeconds(8), 0, 10),
            true,
            1,
            0,
            BatchOrder.OLDEST_FIRST,
            3,
            Duration.ofHours(1),
            false);

    private void rounds(int seconds) {
        for (int i = 0; i < seconds; i++) {
            passASecond();
            for (Member member : members) {
                member.own.advance(Duration.ofMillis(1_001));
                if (i % 10 == 0) {
                    member.store.heartbeat();
                }
                member.round();
            }
        }
    }

    private void backlog(int batches) {
        JdbcBatchStore store = members.get(0).store;
        for (int i = 0; i < batches; i++) {
            append(store, "b" + i);
            markPending(store, "b" + i);
        }
    }

    private int sent() {
        return members.stream().mapToInt(member -> member.sent).sum();
    }

    private int sentInFortySeconds(Kind kind, int instances) {
        members.clear();
        on(kind);
        for (int i = 0; i < instances; i++) {
            // All clocks differ.
            new Member(Duration.ofHours(i % 2 == 0 ? i : -i));
        }
        down = true;
        backlog(8);
        rounds(40);
        int sent = sent();
        assertThat(members).allSatisfy(member -> {
            assertThat(member.state()).isEqualTo(LaneStatus.State.OPEN);
            assertThat(member.opened).hasSize(1);
        });
        assertThat(members.stream().flatMap(member -> member.opened.stream()))
                .filteredOn(CollectorOutage::foundHere)
                .hasSize(1);
        down = false;
        rounds(20);
        assertThat(members).allSatisfy(member -> assertThat(member.state()).isNotEqualTo(LaneStatus.State.OPEN));
        assertThat(balanced(members.get(0).store).delivered()).isEqualTo(8);
        members.forEach(member -> member.engine.close());
        database.close();
        return sent;
    }

    @OnEachDatabase
    void three_instances_with_wrong_clocks_send_the_probes_that_one_would_send(Kind kind) {
        int alone = sentInFortySeconds(kind, 1);
        assertThat(alone).isBetween(7, 10);
        assertThat(sentInFortySeconds(kind, 3)).isBetween(alone, alone + 2);
    }

    @OnEachDatabase
    void an_instance_that_dies_or_loses_the_database_while_it_probes_holds_up_nothing_for_long(Kind kind) {
        on(kind);
        new Member(Duration.ZERO);
        new Member(Duration.ofHours(1));
        down = true;
        backlog(10);
        Member first = members.get(0);
        first.round();
        assertThat(first.state()).isEqualTo(LaneStatus.State.OPEN);

        first.onSend = first.source::refuse;
        while (first.sent == 3) {
            passASecond();
            first.own.advance(Duration.ofMillis(1_001));
            first.round();
        }
        Member other = members.get(1);
        other.own.advance(Duration.ofMillis(1_001));
        // This instance loses the database for ever.
        members.remove(first);
        rounds(280);
        assertThat(other.sent).isZero();
        assertThat(other.state()).isEqualTo(LaneStatus.State.OPEN);
        down = false;
        rounds(60);
        assertThat(other.state()).isNotEqualTo(LaneStatus.State.OPEN);
        assertThat(other.store.count(ALL.states(BatchState.IN_FLIGHT), other.own.instant()))
                .as("given back after the lease")
                .isZero();
        rounds(30);
        assertThat(balanced(other.store).delivered()).isEqualTo(10);
        first.source.recover();
    }

    @OnEachDatabase
    void instances_that_start_at_once_create_the_tables_once(Kind kind) throws Exception {
        JdbcBatchStore waits = open(kind, options -> options.initializeSchema(false));
        assertThat(waits.stats().problem())
                .contains(
                        "missing",
                        "initialize_schema",
                        Dialect.valueOf(kind.name()).id() + "-1.sql");

        List<JdbcBatchStore> stores = together(
                4,
                number -> JdbcBatchStore.open(
                        database.pool(),
                        database.options().lease(LEASE).clock(clock).build(),
                        new Database.Seams(() -> String.valueOf(clock.millis()), ticker::get, false)));
        if (kind == Kind.H2) {
            // There is no lock for that in H2: an instance that failed tries again later.
            stores.forEach(JdbcBatchStore::heartbeat);
        }
        assertThat(stores)
                .allSatisfy(store -> assertThat(store.stats().problem()).isNull());
        assertThat(database.query("SELECT version FROM {p}schema_version ORDER BY version"))
                .containsExactly("1");
        assertThat(stores.get(0).sharedOutages().began("loki", SECOND, "503")).isTrue();
        assertThat(stores.get(1).sharedOutages().current()).containsOnlyKeys("loki");

        waits.heartbeat();
        assertThat(waits.stats().problem()).as("it sees it by itself").isNull();
        stores.forEach(JdbcBatchStore::close);
    }

    @OnEachDatabase
    void an_instance_that_runs_goes_on_when_the_tables_get_newer_and_refuses_when_it_is_started_anew(Kind kind) {
        JdbcBatchStore running = open(kind);
        append(running, "a");
        int newer = Schema.VERSION + 1;
        database.update("INSERT INTO {p}schema_version (version) VALUES (" + newer + ")");
        append(running, "b");
        pass(LEASE.plusMillis(1));
        running.heartbeat();
        assertThat(running.delivered("a")).isNotNull();
        assertThat(running.stats().problem()).isNull();

        JdbcBatchStore started = open();
        assertThat(started.stats().problem()).contains("of version " + newer, "created by a newer release");
        assertThat(failure(started.append(batch("c")))).isInstanceOf(BatchPersistenceException.class);
        database.update("DELETE FROM {p}schema_version WHERE version = " + newer);
        started.heartbeat();
        append(started, "c");
        assertThat(balanced(running).accepted()).isEqualTo(3);
    }

    @OnEachDatabase
    void a_creation_that_broke_off_goes_on(Kind kind) {
        onFaulty(kind);
        source.beforeStatement =
                FaultyDataSource.of("schema_version (version) VALUES (1)", new SQLException("out of disk", "53100"));
        JdbcBatchStore store = open(source, options -> options);
        assertThat(store.stats().problem()).contains("out of disk");
        source.recover();
        store.heartbeat();
        assertThat(store.stats().problem()).isNull();
        append(store, "a");
        assertThat(state(store, "a")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(store.sharedOutages().current()).isEmpty();
    }

    @Test
    void while_another_instance_holds_the_lock_for_creating_the_tables_nothing_is_created() throws SQLException {
        on(Kind.MARIADB);
        try (Connection other = database.pool().getConnection();
                Statement statement = other.createStatement()) {
            statement.execute("SELECT GET_LOCK('" + database.prefix() + "schema', 0)");
            JdbcBatchStore store = open();
            assertThat(store.stats().problem()).contains("another instance has been creating the tables");
            assertThat(database.query("SHOW TABLES LIKE '" + database.prefix() + "batch'"))
                    .isEmpty();
            statement.execute("SELECT RELEASE_LOCK('" + database.prefix() + "schema')");
            store.heartbeat();
            assertThat(store.stats().problem()).isNull();
        }
    }
}
