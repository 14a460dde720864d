package io.batchpersistence.spring.autoconfigure;

import java.util.concurrent.Executor;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * Threads that run the application's code independently of a caller: they have the application's class loader and
 * inherit nothing from the thread that created them, which may be handling a request.
 */
final class ApplicationThreads {

    private ApplicationThreads() {}

    // The priority must not be inherited from the thread that happens to create this one.
    @SuppressWarnings("ThreadPriorityCheck")
    static Thread of(String name, @Nullable ClassLoader classes, Runnable task) {
        Thread thread = new Thread(null, task, name, 0, false);
        thread.setDaemon(true);
        thread.setPriority(Thread.NORM_PRIORITY);
        thread.setContextClassLoader(classes);
        return thread;
    }

    static ThreadFactory factory(String prefix, @Nullable ClassLoader classes) {
        AtomicInteger number = new AtomicInteger();
        return task -> of(prefix + number.incrementAndGet(), classes, task);
    }

    /**
     * A virtual thread for each task. Spring's executor creates threads that inherit thread locals. Needs Java 21 or
     * later.
     */
    static Executor virtual(String prefix, @Nullable ClassLoader classes) {
        ThreadFactory factory = virtualFactory(prefix);
        return task -> {
            Thread thread = factory.newThread(task);
            thread.setContextClassLoader(classes);
            thread.start();
        };
    }

    /** Uses reflection, because this module is compiled for Java 17. */
    private static ThreadFactory virtualFactory(String prefix) {
        try {
            Object builder = Thread.class.getMethod("ofVirtual").invoke(null);
            Class<?> type = Class.forName("java.lang.Thread$Builder");
            type.getMethod("name", String.class, long.class).invoke(builder, prefix, 0L);
            type.getMethod("inheritInheritableThreadLocals", boolean.class).invoke(builder, false);
            return (ThreadFactory) type.getMethod("factory").invoke(builder);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException("virtual threads need Java 21 or later", e);
        }
    }
}
