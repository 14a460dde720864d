package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Runs the contract of stores in processes like those of users: other locales, character sets and time zones, no
 * temporary directory, another user, interrupted threads, a persisted log, a single processor, busy processors. The
 * settings are combined, since each combination runs all suites.
 */
@Timeout(value = 15, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@Tag("slow")
public abstract class HostileSurroundings {

    private final List<String> stores;
    private final List<String> storesWithoutNativeLibrary;
    private final List<String> more;

    /** Names the suites to run: those of the stores, of the stores that need no native library, and others. */
    protected HostileSurroundings(List<String> stores, List<String> storesWithoutNativeLibrary, List<String> more) {
        this.stores = stores;
        this.storesWithoutNativeLibrary = storesWithoutNativeLibrary;
        this.more = more;
    }

    @TempDir
    Path temp;

    private Path directory;
    private List<String> options;

    @BeforeEach
    void directory() throws IOException {
        directory = Files.createDirectory(temp.resolve("surroundings"));
        Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxrwxrwx"));
        Files.setPosixFilePermissions(temp, PosixFilePermissions.fromString("rwxr-xr-x"));
        options = new ArrayList<>(List.of("-Xmx512m", "-Dsurroundings.directory=" + directory));
    }

    private void run(String before, List<String> classes) throws Exception {
        try (ChildJvm child = new ChildJvm(
                Surroundings.class, temp.resolve("err"), options, before, classes.toArray(String[]::new))) {
            List<String> lines = child.awaitPassed();
            assertThat(lines)
                    .last()
                    .asString()
                    .matches("passed [1-9]\\d{1,}, failed 0, skipped 0, log persisted: true");
            System.out.println("surroundings: " + lines.get(lines.size() - 1));
        }
    }

    @Test
    void arabic_digits_another_character_set_no_temporary_directory_one_processor_and_a_permissive_umask()
            throws Exception {
        Path forLibraries = Files.createDirectory(temp.resolve("libraries"));
        options.addAll(List.of(
                "-Dsurroundings.locale=ar-EG",
                "-Dfile.encoding=ISO-8859-1",
                "-Duser.timezone=Asia/Kathmandu",
                "-Djava.io.tmpdir=" + temp.resolve("absent"),
                "-DZstdTempFolder=" + forLibraries));
        run(
                "umask 000; set -- taskset -c 0 \"$@\"",
                Stream.concat(stores.stream(), more.stream()).toList());
    }

    @Test
    void thai_digits_and_calendar_interrupted_callers_and_busy_processors() throws Exception {
        options.addAll(List.of(
                "-Dsurroundings.locale=th-TH-u-ca-buddhist-nu-thai",
                "-Duser.timezone=Australia/Lord_Howe",
                "-Dsurroundings.interrupted=true",
                "-Dsurroundings.busy=" + Runtime.getRuntime().availableProcessors()));
        run("", stores);
    }

    @Test
    void turkish_letters_an_unknown_user_a_log_that_is_persisted_and_a_class_loader_that_is_gone() throws Exception {
        options.addAll(List.of(
                "-Dsurroundings.locale=tr-TR",
                "-Duser.timezone=Africa/Monrovia",
                "-Dsurroundings.logged=true",
                "-Dsurroundings.classLoaderGone=true"));
        run(asUnknownUser(), stores);
    }

    /** Falls back to the user of the build where another user is not available. */
    private static String asUnknownUser() {
        if (!"root".equals(System.getProperty("user.name")) || !Files.isExecutable(Path.of("/usr/bin/setpriv"))) {
            System.out.println("surroundings: not tried as an unknown user, which takes root and setpriv");
            return "true";
        }
        return "set -- setpriv --reuid=54321 --regid=54321 --clear-groups \"$@\"";
    }

    @Test
    void native_access_that_is_denied_except_where_it_is_allowed() throws Exception {
        Path java = denyingJava();
        options.add("--illegal-native-access=deny");
        options.add("--enable-native-access=ALL-UNNAMED");
        run("shift; set -- " + java + " \"$@\"", stores);
    }

    @Test
    void native_access_that_is_denied_altogether() throws Exception {
        assumeTrue(!storesWithoutNativeLibrary.isEmpty(), "all these stores compress");
        Path java = denyingJava();
        options.add("--illegal-native-access=deny");
        run("shift; set -- " + java + " \"$@\"", storesWithoutNativeLibrary);
    }

    private static Path denyingJava() throws IOException {
        if (Runtime.version().feature() >= 24) {
            return Path.of(System.getProperty("java.home"), "bin", "java");
        }
        try (Stream<Path> homes =
                Files.exists(Path.of("/usr/lib/jvm")) ? Files.list(Path.of("/usr/lib/jvm")) : Stream.empty()) {
            Path java = homes.filter(home -> home.getFileName().toString().contains("25"))
                    .map(home -> home.resolve("bin").resolve("java"))
                    .filter(Files::isExecutable)
                    .findFirst()
                    .orElse(null);
            assumeTrue(java != null, "there is no JDK 25 in /usr/lib/jvm, and this one can't deny native access");
            return java;
        }
    }
}
