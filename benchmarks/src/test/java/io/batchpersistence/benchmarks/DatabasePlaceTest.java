package io.batchpersistence.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DatabasePlaceTest {

    @TempDir
    Path parent;

    private final String url = TestUrl.postgresqlOrH2();

    @AfterEach
    void dropSchemas() throws Exception {
        Scenarios.delete(parent);
    }

    private Path directory(String name) throws Exception {
        return Files.createDirectory(parent.resolve(name));
    }

    private boolean exists(String schema) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url);
                PreparedStatement select = connection.prepareStatement(
                        "SELECT 1 FROM information_schema.schemata WHERE LOWER(schema_name) = ?")) {
            select.setString(1, schema);
            try (ResultSet rows = select.executeQuery()) {
                return rows.next();
            }
        }
    }

    @Test
    void a_directory_keeps_its_schema_and_two_have_two() throws Exception {
        Path one = directory("one");
        DatabasePlace.prepare(one, url, 5);
        String schema = DatabasePlace.of(one).schema();
        DatabasePlace.prepare(one, url, 12);
        assertThat(DatabasePlace.of(one)).isEqualTo(new DatabasePlace(url, schema, 12));

        Path other = directory("other");
        DatabasePlace.prepare(other, url, 5);
        assertThat(DatabasePlace.of(other).schema()).isNotEqualTo(schema);
        assertThat(exists(schema)).isTrue();
    }

    @Test
    void who_deletes_a_directory_drops_the_schemas_of_all_below() throws Exception {
        Path one = directory("one");
        DatabasePlace.prepare(one, url, 5);
        DatabasePlace place = DatabasePlace.of(one);
        place.execute("CREATE TABLE " + place.quotedSchema() + ".batch (id int)");
        assertThat(exists(place.schema())).isTrue();

        Scenarios.delete(parent);

        assertThat(parent).doesNotExist();
        assertThat(exists(place.schema())).isFalse();
    }

    @Test
    void whether_a_commit_is_forced_is_said_for_each_connection() throws Exception {
        String postgresql = TestUrl.postgresql();
        for (boolean sync : new boolean[] {true, false}) {
            try (HikariDataSource pool = new DatabasePlace(postgresql, "public", 1).pool(sync);
                    Connection connection = pool.getConnection();
                    Statement statement = connection.createStatement();
                    ResultSet rows = statement.executeQuery("SHOW synchronous_commit")) {
                rows.next();
                assertThat(rows.getString(1)).isEqualTo(sync ? "on" : "off");
            }
        }
    }

    @Test
    void the_server_and_its_settings_are_told() throws Exception {
        assertThat(DatabasePlace.describe(TestUrl.postgresql()))
                .startsWith("PostgreSQL ")
                .contains("; fsync ", "shared_buffers ", "synchronous_commit ");
    }
}
