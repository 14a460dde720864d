package io.batchpersistence;

import io.batchpersistence.internal.log.LogSanitizer;
import java.io.Serial;

/**
 * Payloads can't be compressed or decompressed in this process, because a native library can't be loaded. Nothing is
 * damaged: batches that are held stay, and can be read once the library can be loaded.
 */
public final class CompressionUnavailableException extends BatchPersistenceException {

    @Serial
    private static final long serialVersionUID = 1L;

    private final String problem;
    private final String remedy;

    /**
     * Creates an exception with a remedy.
     *
     * @param problem what is wrong
     * @param remedy how the JVM has to be started, in a sentence
     * @param cause why the library could not be loaded
     */
    public CompressionUnavailableException(String problem, String remedy, Throwable cause) {
        super(problem + ". " + remedy, cause);
        this.problem = LogSanitizer.of(problem);
        this.remedy = LogSanitizer.of(remedy);
    }

    /**
     * Returns what is wrong, without the remedy.
     *
     * @return a text for humans to read
     */
    public String problem() {
        return problem;
    }

    /**
     * Returns how the JVM has to be started.
     *
     * @return a sentence
     */
    public String remedy() {
        return remedy;
    }
}
