package io.batchpersistence.spring.autoconfigure;

import java.util.concurrent.Executor;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * Threads that run the application's code on nobody's behalf: they have its class loader and inherit nothing of the thread that
 * made them, which may be that of somebody's request.
 */
final class ApplicationThreads {

    private ApplicationThreads() {}

    // The priority is not to be that of the thread that happens to make it.
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

    /** A virtual thread for each task. Spring's executor makes threads that inherit. For Java 21 or later. */
    static Executor virtual(String prefix, @Nullable ClassLoader classes) {
        ThreadFactory factory = virtualFactory(prefix);
        return task -> {
            Thread thread = factory.newThread(task);
            thread.setContextClassLoader(classes);
            thread.start();
        };
    }

    /** By reflection, since this is compiled for Java 17. */
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
