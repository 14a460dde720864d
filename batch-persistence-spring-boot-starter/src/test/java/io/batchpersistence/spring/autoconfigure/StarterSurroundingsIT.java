package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import io.batchpersistence.BatchPersistence;
import io.batchpersistence.BatchSender;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.LogEntry;
import io.batchpersistence.spring.CollectorType;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.LoggerFactory;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.ImportAutoConfiguration;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/**
 * An application that persists while its collector is down, and sends after a restart, in processes like those of
 * users.
 */
@EnabledOnOs(value = OS.LINUX, disabledReason = "needs umask")
@Timeout(value = 10, unit = TimeUnit.MINUTES, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
@Tag("slow")
class StarterSurroundingsIT {

    private static final int BATCHES = 20;

    @TempDir
    Path temp;

    private String said = "";

    private int run(String... options) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                "sh",
                "-c",
                "umask 000; exec \"$@\"",
                "sh",
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1",
                "-Xmx256m"));
        command.addAll(List.of(options));
        command.addAll(List.of(
                "-cp",
                System.getProperty("java.class.path"),
                App.class.getName(),
                directory().toString()));
        Path output = temp.resolve("output");
        Process process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(output.toFile())
                .start();
        try {
            int exit = process.waitFor();
            said = Files.readString(output, StandardCharsets.ISO_8859_1);
            return exit;
        } finally {
            process.destroyForcibly();
        }
    }

    private Path directory() {
        return temp.resolve("store");
    }

    private void assertNobodyElseCanRead() throws Exception {
        try (Stream<Path> files = Files.walk(directory())) {
            assertThat(files)
                    .allSatisfy(file -> assertThat(PosixFilePermissions.toString(
                                    Files.getPosixFilePermissions(file, LinkOption.NOFOLLOW_LINKS)))
                            .as(file.toString())
                            .endsWith("------"));
        }
    }

    @Test
    void arabic_digits_another_character_set_and_no_temporary_directory() throws Exception {
        Path libraries = Files.createDirectory(temp.resolve("libraries"));
        int exit = run(
                "-Duser.language=ar",
                "-Duser.country=EG",
                "-Dfile.encoding=ISO-8859-1",
                "-Duser.timezone=Asia/Kathmandu",
                "-XX:ActiveProcessorCount=1",
                "-Djava.io.tmpdir=" + temp.resolve("absent"),
                "-DZstdTempFolder=" + libraries);
        assertThat(exit).as(said).isZero();
        assertThat(said).contains("PASSED");
        assertNobodyElseCanRead();
    }

    @Test
    void turkish_letters_a_log_that_is_persisted_interrupted_callers_and_a_class_loader_that_is_gone()
            throws Exception {
        int exit = run(
                "-Duser.language=tr",
                "-Duser.country=TR",
                "-Duser.timezone=Africa/Monrovia",
                "-Dsurroundings.logged=true",
                "-Dsurroundings.interrupted=true",
                "-Dsurroundings.classLoaderGone=true");
        assertThat(exit).as(said).isZero();
        assertThat(said).contains("PASSED");
    }

    @Test
    void without_a_temporary_directory_it_does_not_start_and_says_what_to_set() throws Exception {
        int exit = run("-Djava.io.tmpdir=" + temp.resolve("absent"));
        assertThat(exit).as(said).isNotZero();
        assertThat(said)
                .contains("APPLICATION FAILED TO START")
                .contains("zstd's native library can't be loaded: ")
                .contains("-DZstdTempFolder=DIR (or -Djava.io.tmpdir=DIR)")
                .contains("set batch_persistence.compression to none")
                .doesNotContain("PASSED");
        assertThat(directory()).as("nothing was begun").doesNotExist();
    }

    @Test
    void without_a_temporary_directory_it_works_without_compression() throws Exception {
        int exit = run("-Djava.io.tmpdir=" + temp.resolve("absent"), "-Dbatch-persistence.compression=none");
        assertThat(exit).as(said).isZero();
        assertThat(said).contains("PASSED");
    }

    @Configuration(proxyBeanMethods = false)
    @ImportAutoConfiguration(BatchPersistenceAutoConfiguration.class)
    static class App {

        private static final AtomicBoolean DOWN = new AtomicBoolean(true);
        private static final AtomicInteger SENT = new AtomicInteger();

        @Bean
        @CollectorType("loki")
        BatchSender lokiSender() {
            return batch -> {
                if (DOWN.get()) {
                    throw new IllegalStateException("is down");
                }
                SENT.incrementAndGet();
            };
        }

        public static void main(String[] args) throws Exception {
            ConfigurableApplicationContext context = start(args[0]);
            BatchPersistence persistence = context.getBean(BatchPersistence.class);
            if (Boolean.getBoolean("surroundings.logged")) {
                persistWhatIsLogged(persistence);
            }
            for (int i = 0; i < BATCHES; i++) {
                persist(persistence, "İıIi ١٢ " + i);
            }
            context.close();
            DOWN.set(false);
            context = start(args[0]);
            BatchPersistence again = context.getBean(BatchPersistence.class);
            await().atMost(Duration.ofMinutes(5))
                    .until(() -> again.stats().collector("loki").delivered() == BATCHES);
            CollectorStats total = again.stats().total();
            context.close();
            if (SENT.get() != BATCHES || total.corrupt() != 0 || !total.isBalanced()) {
                throw new AssertionError(SENT + " sent, " + total);
            }
            System.out.println("PASSED");
        }

        private static ConfigurableApplicationContext start(String directory) {
            SpringApplication application = new SpringApplication(App.class);
            application.setWebApplicationType(WebApplicationType.NONE);
            return application.run(
                    "--batch-persistence.directory=" + directory,
                    "--batch-persistence.recovery.backoff-base=1ms",
                    "--batch-persistence.recovery.backoff-max=100ms",
                    "--batch-persistence.recovery.interval=100ms",
                    "--batch-persistence.max-recovery-retries=1000000");
        }

        private static void persist(BatchPersistence persistence, String id) throws Exception {
            Thread thread = Thread.currentThread();
            ClassLoader loader = thread.getContextClassLoader();
            if (Boolean.getBoolean("surroundings.classLoaderGone")) {
                URLClassLoader gone = new URLClassLoader(new URL[0], null);
                gone.close();
                thread.setContextClassLoader(gone);
            }
            boolean interrupted = Boolean.getBoolean("surroundings.interrupted");
            if (interrupted) {
                thread.interrupt();
            }
            persistence.persistBatch(
                    id, List.of(LogEntry.of(Instant.parse("2026-03-29T01:30:00Z"), "INFO", "ğüşiöç ٣ " + id)), "loki");
            if (interrupted && !Thread.interrupted()) {
                throw new AssertionError("the interrupt is lost");
            }
            thread.setContextClassLoader(loader);
        }

        /** Persists the store's own log events into that store, on the thread that logs. */
        private static void persistWhatIsLogged(BatchPersistence persistence) {
            AtomicInteger number = new AtomicInteger();
            AppenderBase<ILoggingEvent> appender = new AppenderBase<>() {
                @Override
                protected void append(ILoggingEvent event) {
                    if (event.getLevel().isGreaterOrEqual(Level.INFO)) {
                        try {
                            persistence.persistBatch(
                                    "log " + number.incrementAndGet(),
                                    List.of(LogEntry.of(Instant.now(), "INFO", "x" + event.getFormattedMessage())),
                                    "log");
                        } catch (IllegalStateException e) {
                            addError("the store is closed", e);
                        }
                    }
                }
            };
            Logger root = (Logger) LoggerFactory.getLogger(org.slf4j.Logger.ROOT_LOGGER_NAME);
            appender.setContext(root.getLoggerContext());
            appender.start();
            root.addAppender(appender);
        }
    }
}
