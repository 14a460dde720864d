package io.batchpersistence.internal.codec;

import com.github.luben.zstd.util.Native;
import io.batchpersistence.CompressionUnavailableException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * Loads the native library of zstd-jni, which is unpacked into a temporary directory and loaded from there.
 * Thread-safe.
 *
 * <p>It is loaded before any other class of zstd-jni is used: a class whose initializer has failed stays unusable until
 * the process ends, while a library that was not loaded can be tried again.
 */
final class ZstdLibrary {

    /** Minimum time between attempts, because each one may write a file of a megabyte. */
    private static final long RETRY_NANOS = TimeUnit.MINUTES.toNanos(1);

    private static final ReentrantLock LOCK = new ReentrantLock();

    private static volatile boolean loaded;
    // Guarded by the lock.
    private static @Nullable Failure failure;

    private record Failure(Throwable cause, long at) {}

    private ZstdLibrary() {}

    /** Returns normally if the library is loaded. Always tries again after a failure. */
    static void load() {
        require(true);
    }

    /** Returns normally if the library is loaded. After a failure it is not tried again for a minute. */
    static void require() {
        require(false);
    }

    private static void require(boolean atOnce) {
        if (loaded) {
            return;
        }
        LOCK.lock();
        try {
            Failure last = failure;
            if (last == null || atOnce || System.nanoTime() - last.at >= RETRY_NANOS) {
                Throwable cause = tryToLoad();
                last = cause == null ? null : new Failure(cause, System.nanoTime());
                failure = last;
            }
            if (last != null) {
                throw unavailable(last.cause);
            }
            loaded = true;
        } finally {
            LOCK.unlock();
        }
    }

    private static @Nullable Throwable tryToLoad() {
        try {
            Native.load();
            // A library of another version or architecture is detected only by calling it.
            byte[] raw = {1, 2, 3};
            ZstdContexts.decompressLoaded(ZstdContexts.compressLoaded(raw, raw.length, 0), raw.length);
            return null;
        } catch (RuntimeException | LinkageError e) {
            // A LinkageError also means that an initializer failed; denied native access is an IllegalCallerException.
            return e;
        }
    }

    private static CompressionUnavailableException unavailable(Throwable failure) {
        Throwable cause = failure;
        while (cause instanceof ExceptionInInitializerError && cause.getCause() != null) {
            cause = cause.getCause();
        }
        // zstd-jni appends, in a second line, why the library was not found in java.library.path either.
        String why = String.valueOf(cause.getMessage()).lines().findFirst().orElse("");
        String path = System.getProperty("ZstdNativePath");
        String remedy;
        if (cause instanceof IllegalCallerException) {
            Module module = Native.class.getModule();
            String name = module.isNamed() ? module.getName() : "ALL-UNNAMED";
            remedy = "Start the JVM with --enable-native-access=" + name
                    + ", or have 'Enable-Native-Access: ALL-UNNAMED' in the manifest of the application's executable jar";
        } else if (path != null) {
            remedy = "The JVM was started with -DZstdNativePath=" + path
                    + ": make that the library out of the jar of zstd-jni that the application has, or remove it";
        } else {
            String temp = System.getProperty("ZstdTempFolder", System.getProperty("java.io.tmpdir"));
            remedy = "It is unpacked into " + temp
                    + " and loaded from there. Start the JVM with -DZstdTempFolder=DIR (or"
                    + " -Djava.io.tmpdir=DIR), a directory that can be written to and is not mounted noexec, or with"
                    + " -DZstdNativePath=FILE, the library out of the jar of zstd-jni";
        }
        return new CompressionUnavailableException(
                "zstd's native library can't be loaded: " + why,
                remedy + ". Or write without compression: what is held compressed then stays until it can be loaded.",
                cause);
    }
}
