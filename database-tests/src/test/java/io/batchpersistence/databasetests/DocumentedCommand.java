package io.batchpersistence.databasetests;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.abort;

import io.batchpersistence.jdbc.JdbcBatchStore;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** The documented command of docs/jdbc-spring.md that creates migrations from the shipped scripts, run literally. */
final class DocumentedCommand {

    private static final Path DOCUMENT = Path.of("..", "docs", "jdbc-spring.md");
    private static final Pattern COMMAND = Pattern.compile("```\n(unzip .*?)```", Pattern.DOTALL);
    private static final String PACKAGE = "io/batchpersistence/jdbc/";

    private DocumentedCommand() {}

    /**
     * Runs the command.
     *
     * @param project an application's directory
     * @param kind the database whose scripts are used
     * @return the migrations, in order
     */
    static List<Path> run(Path project, OwnDatabase.Kind kind) throws Exception {
        Path migrations = Files.createDirectories(project.resolve("src/main/resources/db/migration"));
        int scripts = writeJar(project.resolve("batch-persistence-jdbc-1.2.3.jar"), kind);
        Matcher command = COMMAND.matcher(Files.readString(DOCUMENT));
        assertThat(command.find()).as("the command is in " + DOCUMENT).isTrue();
        sh(project, "command -v unzip sed || exit 42");
        assertThat(sh(project, "set -e\n" + command.group(1).replace("postgresql", kind.scripts)))
                .isZero();
        List<Path> made = new ArrayList<>();
        for (int version = 1; version <= scripts; version++) {
            made.add(migrations.resolve("V7." + version + "__batch_persistence.sql"));
        }
        try (Stream<Path> files = Files.list(migrations)) {
            assertThat(files).containsExactlyInAnyOrderElementsOf(made);
        }
        return made;
    }

    private static int sh(Path directory, String command) throws Exception {
        Process process = new ProcessBuilder("sh", "-c", command)
                .directory(directory.toFile())
                .redirectErrorStream(true)
                .redirectOutput(directory.resolve("output").toFile())
                .start();
        int status = process.waitFor();
        if (status == 42) {
            String reason = "no unzip or no sed, which the documented command needs";
            if ("required".equals(System.getenv("BATCH_PERSISTENCE_DATABASE_TESTS"))) {
                fail(reason);
            }
            System.out.println("SKIPPED: " + reason);
            abort(reason);
        }
        assertThat(status)
                .as(() -> {
                    try {
                        return Files.readString(directory.resolve("output"));
                    } catch (IOException e) {
                        return e.toString();
                    }
                })
                .isZero();
        return status;
    }

    /** Writes the parts of the jar that the command needs; in this build, the classes need not be in a jar. */
    private static int writeJar(Path jar, OwnDatabase.Kind wanted) throws IOException {
        int scripts = 0;
        try (JarOutputStream out = new JarOutputStream(Files.newOutputStream(jar))) {
            out.putNextEntry(new JarEntry(PACKAGE + "JdbcBatchStore.class"));
            for (String database : List.of("h2", "mariadb", "postgresql")) {
                for (int version = 1; ; version++) {
                    String script = database + "-" + version + ".sql";
                    try (InputStream in = JdbcBatchStore.class.getResourceAsStream(script)) {
                        if (in == null) {
                            break;
                        }
                        out.putNextEntry(new JarEntry(PACKAGE + script));
                        out.write(in.readAllBytes());
                    }
                    if (database.equals(wanted.scripts)) {
                        scripts = version;
                    }
                }
            }
        }
        assertThat(scripts).isPositive();
        return scripts;
    }

    /** Writes a migration of the application itself. */
    static void write(Path file, String text) throws IOException {
        Files.createDirectories(file.getParent());
        Files.writeString(file, text, StandardCharsets.UTF_8);
    }
}
