package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.CompressionUnavailableException;
import io.batchpersistence.DirectoryLockedException;
import java.nio.file.Files;
import java.nio.file.Path;

/** The store's directory or compression can't be used. */
final class StoreNotOpenedException extends BatchPersistenceException implements StartUpFailure {

    private final String action;

    StoreNotOpenedException(Path directory, BatchPersistenceException cause) {
        super(message(cause), cause);
        this.action = action(directory, cause);
    }

    private static String message(BatchPersistenceException cause) {
        if (cause instanceof CompressionUnavailableException unavailable) {
            return unavailable.problem();
        }
        return cause.getMessage() != null ? cause.getMessage() : cause.toString();
    }

    private static String action(Path directory, BatchPersistenceException cause) {
        if (cause instanceof DirectoryLockedException locked && locked.isHeldByThisProcess()) {
            return "Close the other application context first, or give each a directory of its own with"
                    + " batch_persistence.directory (environment variable BATCH_PERSISTENCE_DIRECTORY). In tests it is often a"
                    + " context that Spring keeps in its cache: set the property for each test class, or close the context"
                    + " with @DirtiesContext. Two web applications of one container need two directories.";
        }
        if (cause instanceof DirectoryLockedException locked) {
            return "Stop " + locked.holder()
                    + " if it should not run, or give this application a directory of its own with"
                    + " batch_persistence.directory (environment variable BATCH_PERSISTENCE_DIRECTORY).";
        }
        if (cause instanceof CompressionUnavailableException unavailable) {
            return unavailable.remedy() + " For that, set batch_persistence.compression to none (environment variable"
                    + " BATCH_PERSISTENCE_COMPRESSION).";
        }
        Path existing = directory;
        while (!Files.exists(existing) && existing.getParent() != null) {
            existing = existing.getParent();
        }
        if (!Files.isDirectory(existing)) {
            return existing + " is a file. Remove it, or set batch_persistence.directory (environment variable"
                    + " BATCH_PERSISTENCE_DIRECTORY) to a directory.";
        }
        if (!Files.isWritable(existing)) {
            return "Let the user " + System.getProperty("user.name") + " write to " + existing
                    + ", or set batch_persistence.directory (environment variable BATCH_PERSISTENCE_DIRECTORY) to a directory"
                    + " it may write to.";
        }
        return "Make sure that the disk of " + existing + " works and has space and inodes left, or set"
                + " batch_persistence.directory (environment variable BATCH_PERSISTENCE_DIRECTORY) to a directory elsewhere.";
    }

    @Override
    public String action() {
        return action;
    }
}
