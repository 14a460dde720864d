package io.batchpersistence;

import java.io.Serial;

/**
 * Payloads can't be compressed or decompressed in this process, because a native library can't be loaded. That is no damage:
 * batches that are held stay, and can be read once the library can be loaded.
 */
public final class CompressionUnavailableException extends BatchPersistenceException {

    @Serial
    private static final long serialVersionUID = 1L;

    private final String problem;
    private final String remedy;

    /**
     * With what to do.
     *
     * @param problem what is wrong
     * @param remedy how the JVM has to be started, in a sentence
     * @param cause why the library could not be loaded
     */
    public CompressionUnavailableException(String problem, String remedy, Throwable cause) {
        super(problem + ". " + remedy, cause);
        this.problem = SingleLine.of(problem);
        this.remedy = SingleLine.of(remedy);
    }

    /**
     * What is wrong, without the remedy.
     *
     * @return for a person to read
     */
    public String problem() {
        return problem;
    }

    /**
     * How the JVM has to be started.
     *
     * @return a sentence
     */
    public String remedy() {
        return remedy;
    }
}
