package io.batchpersistence.store;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.AppenderBase;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.LogEntry;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.engine.BatchPersistenceEngine;
import io.batchpersistence.spi.BatchStore;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.AnnotatedElementContext;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.io.TempDirFactory;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary;
import org.slf4j.LoggerFactory;

/**
 * Runs test classes in a process that is set up like those of some users and unlike those of developers.
 * {@link HostileSurroundings} starts it. Sets up what cannot be a JVM option.
 */
public final class Surroundings {

    /** An interrupted thread makes each call of a store and must still be interrupted after it. */
    private static final String INTERRUPTED = "surroundings.interrupted";

    /** The context class loader of each calling thread is closed, like that of an undeployed application. */
    private static final String NO_CLASS_LOADER = "surroundings.classLoaderGone";

    /** Log events are persisted synchronously by the logging thread. */
    private static final String LOGGED = "surroundings.logged";

    /** The number of threads that spin all the time. */
    private static final String BUSY = "surroundings.busy";

    private static final String LOCALE = "surroundings.locale";

    /** The directory for temporary directories of tests, since there is no other place for them. */
    private static final String DIRECTORY = "surroundings.directory";

    private Surroundings() {}

    /** Wraps the store of a contract suite for these surroundings. */
    public static BatchStore of(BatchStore store) {
        boolean interrupted = Boolean.getBoolean(INTERRUPTED);
        boolean classLoaderGone = Boolean.getBoolean(NO_CLASS_LOADER);
        if (!interrupted && !classLoaderGone) {
            return store;
        }
        return (BatchStore) Proxy.newProxyInstance(
                Surroundings.class.getClassLoader(), new Class<?>[] {BatchStore.class}, (proxy, method, arguments) -> {
                    Thread thread = Thread.currentThread();
                    ClassLoader loader = thread.getContextClassLoader();
                    boolean before = interrupted && Thread.interrupted();
                    try {
                        if (classLoaderGone) {
                            thread.setContextClassLoader(closed());
                        }
                        if (interrupted) {
                            thread.interrupt();
                        }
                        Object result = method.invoke(store, arguments);
                        if (interrupted && !Thread.interrupted()) {
                            throw new AssertionError(method.getName() + " has lost the caller's interrupt");
                        }
                        return result;
                    } catch (InvocationTargetException e) {
                        throw e.getCause();
                    } finally {
                        thread.setContextClassLoader(loader);
                        if (interrupted) {
                            Thread.interrupted();
                            if (before) {
                                thread.interrupt();
                            }
                        }
                    }
                });
    }

    private static ClassLoader closed() throws IOException {
        URLClassLoader loader = new URLClassLoader(new URL[0], null);
        loader.close();
        return loader;
    }

    /** Runs the named test classes. The last line reports the result. */
    public static void main(String[] classes) throws Exception {
        String locale = System.getProperty(LOCALE);
        if (locale != null) {
            Locale.setDefault(Locale.forLanguageTag(locale));
        }
        for (int i = 0; i < Integer.getInteger(BUSY, 0); i++) {
            Thread busy = new Thread(
                    () -> {
                        while (true) {
                            Thread.onSpinWait();
                        }
                    },
                    "busy");
            busy.setDaemon(true);
            busy.start();
        }
        Path directory = Path.of(System.getProperty(DIRECTORY));
        BooleanSupplier logged = Boolean.getBoolean(LOGGED) ? persistWhatIsLogged(directory) : () -> true;
        LauncherDiscoveryRequest request = LauncherDiscoveryRequestBuilder.request()
                .selectors(Stream.of(classes).map(name -> selectClass(name)).toList())
                .configurationParameter("junit.jupiter.tempdir.factory.default", TempDirs.class.getName())
                .build();
        SummaryGeneratingListener listener = new SummaryGeneratingListener();
        LauncherFactory.create().execute(request, listener);
        TestExecutionSummary summary = listener.getSummary();
        PrintWriter out = new PrintWriter(System.out, true, StandardCharsets.UTF_8);
        summary.printFailuresTo(out, 20);
        boolean allLogged = logged.getAsBoolean();
        out.println(String.format(
                Locale.ROOT,
                "passed %d, failed %d, skipped %d, log persisted: %s",
                summary.getTestsSucceededCount(),
                summary.getTotalFailureCount(),
                summary.getTestsAbortedCount() + summary.getTestsSkippedCount(),
                allLogged));
        out.flush();
        Runtime.getRuntime().halt(summary.getTotalFailureCount() == 0 && allLogged ? 0 : 1);
    }

    /** Returns a check for the end: whether all logged batches are stored. */
    private static BooleanSupplier persistWhatIsLogged(Path directory) {
        BatchPersistenceEngine engine = BatchPersistenceEngine.builder(
                        DiskBatchStores.segment(DiskStoreOptions.builder(directory.resolve("log"))
                                .sync(SyncPolicy.NEVER)
                                .build()))
                .build();
        AtomicInteger persisted = new AtomicInteger();
        AppenderBase<ILoggingEvent> appender = new AppenderBase<>() {
            @Override
            protected void append(ILoggingEvent event) {
                if (event.getLevel().isGreaterOrEqual(Level.INFO)) {
                    String message = event.getFormattedMessage();
                    engine.persistBatch(
                            "log " + persisted.incrementAndGet(),
                            List.of(LogEntry.of(
                                    Instant.ofEpochMilli(event.getTimeStamp()),
                                    event.getLevel().toString(),
                                    message.isEmpty() ? "nothing" : message)),
                            "log");
                }
            }
        };
        Logger root = (Logger) LoggerFactory.getLogger(org.slf4j.Logger.ROOT_LOGGER_NAME);
        appender.setContext(root.getLoggerContext());
        appender.start();
        root.addAppender(appender);
        return () -> {
            root.detachAppender(appender);
            long accepted = engine.stats().collector("log").accepted();
            engine.close();
            return accepted > 0 && accepted == persisted.get();
        };
    }

    /** Creates temporary directories where the process may write. */
    public static final class TempDirs implements TempDirFactory {
        @Override
        public Path createTempDirectory(AnnotatedElementContext element, ExtensionContext test) throws IOException {
            return Files.createTempDirectory(Path.of(System.getProperty(DIRECTORY)), "test");
        }
    }
}
