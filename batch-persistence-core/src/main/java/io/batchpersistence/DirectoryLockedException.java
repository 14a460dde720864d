package io.batchpersistence;

import io.batchpersistence.internal.log.LogSanitizer;
import java.io.Serial;
import java.nio.file.Path;

/** The store's directory is in use by another process, or by another store in this one. */
public final class DirectoryLockedException extends BatchPersistenceException {

    @Serial
    private static final long serialVersionUID = 1L;

    private final String directory;
    private final String holder;
    private final boolean heldByThisProcess;

    /**
     * Creates an exception for a holder in another process.
     *
     * @param directory the directory
     * @param holder the holder: process id, host, since when
     */
    public DirectoryLockedException(Path directory, String holder) {
        this(directory, holder, "every application needs a directory of its own", false);
    }

    private DirectoryLockedException(Path directory, String holder, String advice, boolean heldByThisProcess) {
        super("the directory " + directory + " is in use by " + holder + "; " + advice, null);
        this.directory = directory.toString();
        // It was read from a file.
        this.holder = LogSanitizer.of(holder);
        this.heldByThisProcess = heldByThisProcess;
    }

    /**
     * Creates an exception for a holder in the same process: another application context, another web application of
     * the same container, a store that was not closed.
     *
     * @param directory the directory
     * @param description process id, host, since when; may be empty
     * @return the exception
     */
    public static DirectoryLockedException heldByThisProcess(Path directory, String description) {
        return new DirectoryLockedException(
                directory,
                "another store of this application, or of another one in the same JVM"
                        + (description.isBlank() ? "" : " (" + description + ")"),
                "close that store before another one opens the directory, or give each a directory of its own",
                true);
    }

    /**
     * Returns the directory.
     *
     * @return its path
     */
    public String directory() {
        return directory;
    }

    /**
     * Returns the holder.
     *
     * @return process id, host and since when, for humans to read
     */
    public String holder() {
        return holder;
    }

    /**
     * Whether the holder is in this process.
     *
     * @return {@code false} if it is another process
     */
    public boolean isHeldByThisProcess() {
        return heldByThisProcess;
    }
}
