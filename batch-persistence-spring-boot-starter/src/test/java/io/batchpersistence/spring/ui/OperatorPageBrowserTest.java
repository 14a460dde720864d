package io.batchpersistence.spring.ui;

import static io.batchpersistence.spring.ui.PageApplication.PATH;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.batchpersistence.BatchSelector;
import io.batchpersistence.spring.event.CollectorOutageOpenedEvent;
import io.batchpersistence.spring.ui.PageApplication.Collector;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.h2.jdbcx.JdbcDataSource;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.openqa.selenium.Keys;
import org.openqa.selenium.WebElement;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.event.EventListener;
import org.springframework.jdbc.datasource.AbstractDataSource;

/** The page in a real browser. Saves screenshots in {@code target/screenshots}. */
class OperatorPageBrowserTest extends PageTestBase {

    private static final String DOWN = "HTTP 503: the collector is being restarted";

    private static Browser browser;

    /** Records when an outage was noticed. */
    @Configuration(proxyBeanMethods = false)
    static class Outages {
        final CompletableFuture<Long> opened = new CompletableFuture<>();

        @EventListener
        void opened(CollectorOutageOpenedEvent event) {
            opened.complete(System.nanoTime());
        }
    }

    @BeforeAll
    static void startBrowser() {
        browser = Browser.start();
    }

    @BeforeEach
    void reset() {
        browser.reset();
    }

    @AfterAll
    static void closeBrowser() {
        if (browser != null) {
            browser.close();
        }
    }

    private void open() {
        browser.open(url() + PATH);
        browser.awaitText("#live-word", "Live");
    }

    /** With a dead letter "one". */
    private void openWithDeadLetter(String collectorType, String reason, Class<?> more, String... properties) {
        start(more, properties);
        deadLetter("one", collectorType, reason);
        open();
        browser.awaitText("#batches", "one");
    }

    private void confirm(String operation, String counted) {
        browser.awaitText("#operation-count", counted);
        browser.button("#operation", operation).click();
    }

    @Test
    void an_outage_is_seen_its_cause_read_dead_letters_replayed_and_all_drained() throws Exception {
        start(Outages.class, UNRESTRICTED);
        Collector collector = context.getBean(Collector.class);
        for (int i = 0; i < 10; i++) {
            persist("before-" + i, "loki");
        }
        await().untilAsserted(() -> assertThat(collector.delivered).hasSize(10));
        open();
        browser.awaitText("#alerts", "All collectors take batches.");
        browser.awaitText("#tile-delivered", "10");
        browser.awaitText("#batches", "No such batch is held.");
        browser.size(1280, 1500);
        browser.screenshot("overview");
        browser.assertAccessible("all is well");

        // Some batches are rejected, for two reasons.
        for (int i = 0; i < 10; i++) {
            deadLetter("dead-" + i, "loki", i < 3 ? "HTTP 413: entry too large" : "HTTP 400: timestamp out of order");
        }
        browser.awaitText("#tile-dead", "10");
        browser.awaitText("#reasons", "HTTP 413: entry too large", "HTTP 400: timestamp out of order");

        // The collector goes down: the page says so, and why.
        collector.failure = DOWN;
        for (int i = 0; i < 40; i++) {
            persist("during-" + i, "loki");
        }
        long noticed = context.getBean(Outages.class).opened.get(30, TimeUnit.SECONDS);
        browser.awaitText("#alerts", "loki: down", DOWN);
        long seen = System.nanoTime();
        // No assertion on the time: the page polls the numbers every second, so it takes at most that plus one
        // response.
        System.out.println("PAGE from when the outage was noticed until it was to be read: "
                + TimeUnit.NANOSECONDS.toMillis(seen - noticed) + " ms");
        assertThat(browser.text("#announcer")).contains("loki is down", DOWN);
        assertThat(browser.driver().getTitle()).startsWith("loki: down");
        browser.awaitText("#collectors tbody", "Down", DOWN);
        browser.awaitText("#reasons", DOWN);
        browser.awaitText("#batches", "during-");
        browser.screenshot("outage");
        browser.dark(true);
        browser.screenshot("outage-dark");
        browser.assertAccessible("an outage, dark");
        browser.size(360, 1500);
        browser.screenshot("outage-phone-dark");
        browser.assertAccessible("an outage, on a phone");
        browser.dark(false);
        browser.assertAccessible("an outage, on a phone, light");
        browser.size(1280, 1500);

        // It is back: the backlog drains.
        collector.failure = null;
        browser.awaitText("#alerts", "All collectors take batches.");
        browser.awaitText("#tile-waiting", "0\n");
        // The last batches are still being sent.
        await().untilAsserted(() -> assertThat(collector.delivered).hasSize(50));

        // The dead letters of one reason are replayed after a count; those of the other reason are not touched.
        browser.button("#reasons", "HTTP 413: entry too large").click();
        browser.awaitText("#announcer", "3 batches listed");
        assertThat(browser.all("#batches tbody tr")).hasSize(3);
        browser.button("#filter-operations", "Replay these dead letters…").click();
        browser.awaitText("#operation-what", "of loki", "HTTP 413: entry too large");
        browser.awaitText("#operation-count", "3 batches will be replayed.");
        browser.size(1280, 900);
        browser.screenshot("dead-letters");
        browser.assertAccessible("a confirmation");
        assertThat(collector.delivered).as("counted, not done").hasSize(50);
        confirm("Replay dead letters", "3 batches");
        browser.awaitText("#message", "3 batches were replayed.");
        await().untilAsserted(() -> assertThat(collector.delivered).hasSize(53));
        browser.awaitText("#tile-dead", "7\n");

        // And the rest.
        browser.button("#filter", "Reset").click();
        browser.button("#filter-operations", "Replay these dead letters…").click();
        confirm("Replay dead letters", "7 batches");
        browser.awaitText("#message", "7 batches were replayed.");
        browser.awaitText("#tile-dead", "0\n");
        browser.awaitText("#tile-waiting", "0\n");
        browser.awaitText("#tile-delivered", "60\n");
        await().untilAsserted(() -> assertThat(collector.delivered).hasSize(60));
        assertThat(persistence().count(BatchSelector.all())).isZero();
        assertThat(browser.complaints()).isEmpty();
    }

    @Test
    void a_batch_tells_its_history_and_what_is_in_it() {
        openWithDeadLetter(
                "loki",
                "HTTP 400: malformed",
                Outages.class,
                UNRESTRICTED,
                "batch-persistence.endpoint.show-entries=always");
        browser.button("#batches", "one").click();
        browser.awaitText(
                "#detail",
                "Batch one",
                "dead letter",
                "persisted",
                "failed: HTTP 400: malformed",
                "tenant-of-one",
                "GET /index.html 200 for one");
        browser.screenshot("batch");
        browser.assertAccessible("a batch");
        browser.dark(true);
        browser.size(360, 800);
        browser.screenshot("batch-phone-dark");
        browser.assertAccessible("a batch, on a phone, dark");
        browser.button("#detail", "Discard…").click();
        confirm("Discard", "1 batch will be deleted.");
        browser.awaitText("#message", "1 batch was discarded.");
        browser.awaitText("#batches", "No such batch is held.");
        assertThat(browser.complaints()).isEmpty();
    }

    @Test
    void is_used_by_keyboard_alone() {
        openWithDeadLetter("no one", "malformed", Outages.class, UNRESTRICTED);
        browser.script("document.querySelector('#batches button.id').focus()");
        focused().sendKeys(Keys.ENTER);
        browser.awaitText("#detail", "dead letter");
        assertThat(focused().getAttribute("id")).isEqualTo("detail-heading");
        tabTo("Replay…").sendKeys(Keys.ENTER);
        browser.awaitText("#operation-count", "1 batch will be replayed.");
        // The focus stays in the dialog.
        for (int i = 0; i < 10; i++) {
            focused().sendKeys(Keys.TAB);
            assertThat(browser.script("return document.activeElement === document.body"
                            + " || document.activeElement.closest('#operation') !== null"))
                    .isEqualTo(true);
        }
        focused().sendKeys(Keys.ESCAPE);
        browser.awaitNot("#operation[open]");
        assertThat(focused().getText()).as("where it was before").isEqualTo("Replay…");
        focused().sendKeys(Keys.ESCAPE);
        browser.awaitNot("#detail[open]");
        assertThat(focused().getText()).isEqualTo("one");
        assertThat(persistence().find("one")).isPresent();
    }

    private WebElement focused() {
        return browser.driver().switchTo().activeElement();
    }

    private WebElement tabTo(String name) {
        for (int i = 0; i < 50; i++) {
            if (name.equals(focused().getText())) {
                return focused();
            }
            focused().sendKeys(Keys.TAB);
        }
        throw new AssertionError("the key Tab does not get to " + name);
    }

    @Test
    void pauses_and_resumes() {
        start(Outages.class, UNRESTRICTED);
        Collector collector = context.getBean(Collector.class);
        persist("first", "loki");
        open();
        browser.awaitText("#collectors tbody", "loki");
        browser.button("#collectors", "Pause loki").click();
        confirm("Pause", "loki will be paused");
        browser.awaitText("#alerts", "loki: paused");
        persist("kept", "loki");
        browser.awaitText("#tile-waiting", "1\n");
        browser.button("#collectors", "Resume loki").click();
        confirm("Resume", "1 batch");
        browser.awaitText("#tile-waiting", "0\n");
        assertThat(collector.delivered).contains("first", "kept");
    }

    @Test
    void nothing_is_done_before_it_is_counted() {
        openWithDeadLetter("no one", "malformed", Outages.class, UNRESTRICTED);
        // Counting never finishes.
        browser.script("const real = window.fetch; window.posts = [];"
                + "window.fetch = (url, options) => {"
                + "  if (!options || options.method !== 'POST') { return real(url, options); }"
                + "  window.posts.push(options.body); return new Promise(() => {}); };");
        browser.button("#filter-operations", "Replay these dead letters…").click();
        browser.awaitText("#operation-count", "Counting");
        assertThat(browser.find("#operation-confirm").isEnabled()).isFalse();
        // Like the key Enter.
        browser.script("document.getElementById('operation-form').requestSubmit()");
        browser.script("document.getElementById('operation-rate').focus()");
        focused().sendKeys("1", Keys.ENTER);
        assertThat((List<?>) browser.script("return window.posts"))
                .singleElement()
                .asString()
                .contains("\"dryRun\":true");
    }

    @Test
    void shows_no_buttons_where_it_is_read_only() {
        openWithDeadLetter("loki", "malformed", Outages.class);
        assertThat(browser.text("header")).contains("Read-only");
        browser.button("#batches", "one").click();
        browser.awaitText("#detail", "dead letter", "Entries are not shown here");
        assertThat(browser.text("button"))
                .doesNotContainIgnoringCase("replay")
                .doesNotContainIgnoringCase("retry")
                .doesNotContainIgnoringCase("discard")
                .doesNotContainIgnoringCase("resume");
        assertThat(browser.all("#collectors td button"))
                .extracting(WebElement::getText)
                .containsExactly("1");
        assertThat(browser.text("#detail")).doesNotContain("tenant-of", "index.html");
    }

    @Test
    void what_is_in_batches_is_text_and_nothing_else() {
        String hostile = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=2</script>&lt;b&gt;'\"";
        start(Outages.class, UNRESTRICTED, "batch-persistence.endpoint.show-entries=always");
        deadLetter("id " + hostile, "type " + hostile, "reason " + hostile);
        persist("other " + hostile, "waits " + hostile);
        open();
        browser.awaitText("#collectors tbody", "type " + hostile);
        browser.awaitText("#reasons", "reason " + hostile);
        browser.awaitText("#alerts", "waits " + hostile);
        browser.awaitText("#batches", "id " + hostile);
        browser.button("#reasons", "reason " + hostile).click();
        browser.awaitText("#announcer", "1 batch listed");
        browser.button("#batches", "id " + hostile).click();
        browser.awaitText("#detail", "id " + hostile, "reason " + hostile, "for id " + hostile);
        browser.button("#detail", "Discard…").click();
        browser.awaitText("#operation-what", "id " + hostile);
        confirm("Discard", "1 batch");
        browser.awaitText("#message", "1 batch was discarded.");
        assertThat(browser.all("img, body script, main b")).isEmpty();
        assertThat(browser.script("return window.hacked")).isNull();
        assertThat(browser.complaints()).isEmpty();
    }

    @Test
    void says_so_when_it_is_out_of_date() {
        openWithDeadLetter("loki", "malformed", Outages.class);
        browser.offline(true);
        browser.awaitText("#connection", "The application does not answer.", "The numbers below are those of");
        browser.awaitText("#live-word", "Out of date");
        browser.screenshot("error");
        browser.offline(false);
        browser.awaitText("#live-word", "Live");
        assertThat(browser.find("#connection").isDisplayed()).isFalse();
    }

    /** A database that can be switched on and off. */
    @Configuration(proxyBeanMethods = false)
    static class Database {
        private volatile boolean away = true;

        @Bean
        DataSource dataSource() {
            JdbcDataSource real = new JdbcDataSource();
            real.setURL("jdbc:h2:mem:page;DB_CLOSE_DELAY=-1");
            return new AbstractDataSource() {
                @Override
                public Connection getConnection() throws SQLException {
                    if (away) {
                        throw new SQLException("the server is being updated", "08001");
                    }
                    return real.getConnection();
                }

                @Override
                public Connection getConnection(String user, String password) throws SQLException {
                    return getConnection();
                }
            };
        }
    }

    @Test
    void tells_of_batches_that_are_kept_while_the_database_is_away() {
        start(Database.class, "batch-persistence.store=jdbc", "batch-persistence.jdbc.fallback=segment");
        persistence().persistBatch("one", ENTRIES, "kafka");
        persistence().releaseBatch("one");
        browser.open(url() + PATH);
        browser.awaitText(
                "#alerts",
                "The database can't be used",
                "the server is being updated",
                directory.toString(),
                "1 wait for it");
        browser.screenshot("fallback");
        context.getBean(Database.class).away = false;
        browser.awaitText("#batches", "one");
        await().until(() -> !browser.find("#alerts").getText().contains("database"));
    }

    @Test
    void says_what_is_wrong_with_a_filter() {
        start(Outages.class);
        open();
        browser.screenshot("empty");
        browser.assertAccessible("nothing is held");
        browser.find("#filter details summary").click();
        browser.find("#filter [name=olderThan]").sendKeys("soon", Keys.ENTER);
        browser.awaitText("#filter-problem", "olderThan");
        browser.assertAccessible("a wrong filter");
        browser.button("#filter", "Reset").click();
        browser.awaitText("#announcer", "0 batches listed");
        assertThat(browser.find("#filter-problem").isDisplayed()).isFalse();
    }

    @Test
    void stays_usable_with_many_batches_and_collectors() {
        start(Outages.class);
        for (int i = 0; i < 300; i++) {
            persist("b" + i, "collector-" + i);
        }
        open();
        browser.awaitText("#collectors-more", "20 of 300 are shown.");
        browser.awaitText("#alerts", "295 more collectors");
        browser.find("#collector-search").sendKeys("r-299");
        browser.awaitText("#collectors tbody", "collector-299");
        assertThat(browser.all("#collectors tbody tr")).hasSize(1);
        assertThat(browser.all("#batches tbody tr")).hasSize(50);
        browser.button("#pages", "Next page").click();
        browser.awaitText("#page-number", "Page 2");
        browser.awaitText("#batches", "b50");
        assertThat(browser.text("#batches")).doesNotContain("b49");
        browser.button("#pages", "Previous page").click();
        browser.awaitText("#batches", "b49");
    }

    @Test
    void shows_the_backlog_over_time_also_as_a_table() {
        start(Outages.class);
        for (int i = 0; i < 3; i++) {
            persist("b" + i, "no one");
        }
        open();
        browser.awaitText("#chart .legend", "waiting: 3 now", "dead letters: 0 now");
        assertThat(browser.find("#chart svg").getAttribute("aria-label")).contains("Waiting: 3 now");
        browser.find("#backlog-numbers summary").click();
        browser.awaitText("#backlog-table tbody", "3");
        browser.assertAccessible("the backlog as a table");
    }

    @Test
    void updates_can_be_paused() {
        start(Outages.class);
        open();
        browser.find("#pause-updates").click();
        browser.awaitText("#live-word", "Updates paused");
        assertThat(browser.find("#pause-updates").getAttribute("aria-pressed")).isEqualTo("true");
        browser.find("#pause-updates").click();
        browser.awaitText("#live-word", "Live");
    }
}
