package io.batchpersistence;

import java.io.Serial;
import java.nio.file.Path;

/** The store's directory is in use by another process, or by another store in this one. */
public final class DirectoryLockedException extends BatchPersistenceException {

    @Serial
    private static final long serialVersionUID = 1L;

    private final String directory;
    private final String holder;

    /**
     * Names the holder.
     *
     * @param directory the directory
     * @param holder who holds it: process id, host, since when
     */
    public DirectoryLockedException(Path directory, String holder) {
        super(
                "the directory " + directory + " is in use by " + holder
                        + "; every application needs a directory of its own",
                null);
        this.directory = directory.toString();
        this.holder = SingleLine.of(holder); // read from a file
    }

    /**
     * The directory.
     *
     * @return its path
     */
    public String directory() {
        return directory;
    }

    /**
     * Who holds it.
     *
     * @return process id, host and since when, for a person to read
     */
    public String holder() {
        return holder;
    }
}
