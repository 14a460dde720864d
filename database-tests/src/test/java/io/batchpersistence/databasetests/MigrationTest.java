package io.batchpersistence.databasetests;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.databasetests.OwnDatabase.Kind;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.jdbc.core.JdbcTemplate;

/** Tables created by Flyway or Liquibase, and tables created by the store beside Flyway. */
class MigrationTest extends ApplicationTest {

    private static final String NEVER = "batch-persistence.jdbc.initialize-schema=never";
    private static final String ALWAYS = "batch-persistence.jdbc.initialize-schema=always";

    /** The store checks its tables on creation: a store created before the migration would have found none. */
    private static void assertMadeAfter(ConfigurableApplicationContext context, String migration) {
        assertThat(context.getBeanFactory().getBeanDefinition("batchStore").getDependsOn())
                .contains(migration);
        assertThat(persistence(context).stats().problem()).isNull();
    }

    private static List<String> strings(ConfigurableApplicationContext context, String sql) {
        return context.getBean(JdbcTemplate.class).queryForList(sql, String.class);
    }

    @ParameterizedTest
    @EnumSource
    void the_scripts_are_migrations_of_flyway(Kind kind) throws Exception {
        OwnDatabase database = on(kind);
        List<Path> migrations = DocumentedCommand.run(project, kind);
        for (int start = 1; start <= 2; start++) {
            ConfigurableApplicationContext context =
                    start(Application.class, database, NEVER, "spring.flyway.enabled=true");
            assertMadeAfter(context, "flywayInitializer");
            assertThat(
                            strings(
                                    context,
                                    "SELECT \"script\" FROM \"flyway_schema_history\" WHERE \"type\" = 'SQL' ORDER BY \"installed_rank\""))
                    .containsExactlyElementsOf(migrations.stream()
                            .map(file -> file.getFileName().toString())
                            .toList());
            assertItPersistsAndDelivers(context, "batch-" + start);
            context.close();
        }
    }

    @ParameterizedTest
    @EnumSource
    void the_scripts_are_changes_of_liquibase(Kind kind) throws Exception {
        OwnDatabase database = on(kind);
        StringBuilder changelog = new StringBuilder("databaseChangeLog:\n");
        for (Path migration : DocumentedCommand.run(project, kind)) {
            String name = migration.getFileName().toString();
            changelog.append("""
                      - changeSet:
                          id: %s
                          author: batch-persistence
                          changes:
                            - sqlFile: { path: db/migration/%s }
                    """.formatted(name, name));
        }
        DocumentedCommand.write(resources().resolve("db/changelog/db.changelog-master.yaml"), changelog.toString());
        for (int start = 1; start <= 2; start++) {
            ConfigurableApplicationContext context =
                    start(Application.class, database, NEVER, "spring.liquibase.enabled=true");
            assertMadeAfter(context, "liquibase");
            assertItPersistsAndDelivers(context, "batch-" + start);
            context.close();
        }
    }

    @ParameterizedTest
    @EnumSource
    void the_store_makes_its_tables_beside_those_of_flyway(Kind kind) throws Exception {
        OwnDatabase database = on(kind);
        DocumentedCommand.write(
                resources().resolve("db/migration/V1__orders.sql"),
                "CREATE TABLE orders (id varchar(36) PRIMARY KEY);");
        for (int start = 1; start <= 2; start++) {
            ConfigurableApplicationContext context =
                    start(Application.class, database, ALWAYS, "spring.flyway.enabled=true");
            assertMadeAfter(context, "flywayInitializer");
            assertThat(strings(context, "SELECT id FROM orders" + (start == 1 ? "" : ", customers")))
                    .isEmpty();
            assertItPersistsAndDelivers(context, "batch-" + start);
            context.close();
            // The application's next release.
            DocumentedCommand.write(
                    resources().resolve("db/migration/V2__customers.sql"),
                    "CREATE TABLE customers (name varchar(36) PRIMARY KEY);");
        }
    }
}
