package io.batchpersistence.jdbc;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import io.batchpersistence.BatchState;
import io.batchpersistence.jdbc.TestDatabase.Kind;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Tables in a separate schema with any name. */
class JdbcSchemaTest extends JdbcTestBase {

    private final List<String> made = new ArrayList<>();

    private String make(Kind kind, String name) {
        on(kind);
        return makeAnother(kind, name);
    }

    private String makeAnother(Kind kind, String name) {
        String quoted = Dialect.valueOf(kind.name()).quoted(name);
        try {
            database.update("CREATE SCHEMA " + quoted);
        } catch (IllegalStateException e) {
            assumeFalse(String.valueOf(e).contains("denied"), "this user may not make schemas");
            throw e;
        }
        made.add(quoted + (kind == Kind.MARIADB ? "" : " CASCADE"));
        return quoted;
    }

    @AfterEach
    void drop() {
        closeAll();
        made.forEach(schema -> database.update("DROP SCHEMA " + schema));
    }

    private JdbcBatchStore openIn(String schema) {
        return open(database.pool(), options -> options.schema(schema));
    }

    @ParameterizedTest
    @CsvSource({
        "H2, Logs", "H2, order", "H2, my-schema",
        "POSTGRESQL, Logs", "POSTGRESQL, order", "POSTGRESQL, my-schema",
        "MARIADB, Logs", "MARIADB, order", "MARIADB, my-schema"
    })
    void a_schema_can_have_any_name(Kind kind, String name) {
        String quoted = make(kind, name);
        JdbcBatchStore store = openIn(name);
        assertThat(store.stats().problem()).isNull();
        append(store, "a", "b");
        markPending(store, "a");
        assertThat(claim(openIn(name))).containsExactly("a");
        assertThat(state(store, "b")).isEqualTo(BatchState.IN_FLIGHT);
        assertThat(database.query("SELECT COUNT(*) FROM " + quoted + ".{p}batch"))
                .containsExactly("2");
        assertThat(balanced(store).accepted()).isEqualTo(2);
    }

    @OnEachDatabase
    void of_a_schema_that_is_not_there_it_is_told_which_ones_look_like_it(Kind kind) {
        make(kind, "Ship-Logs");
        JdbcBatchStore store = openIn("ship_logs");
        assertThat(store.stats().problem())
                .contains("there is no schema 'ship_logs'", "there is 'Ship-Logs'", "upper and lower case");
        assertThat(openIn("nothing_like_it").stats().problem())
                .contains("there is no schema 'nothing_like_it'")
                .doesNotContain("there is '");

        makeAnother(kind, "ship_logs");
        store.heartbeat();
        assertThat(store.stats().problem()).isNull();
        append(store, "a");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "", " ", " logs", "logs ", "logs.", ".logs", "a\"b", "a`b", "a'b", "a;b", "a\nb", "a{p}", "a?", "a/b"
            })
    void what_no_schema_is_called_is_refused(String name) {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> JdbcStoreOptions.builder().schema(name).build())
                .withMessageContaining("schema must be");
    }
}
