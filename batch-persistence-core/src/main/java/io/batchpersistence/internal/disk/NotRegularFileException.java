package io.batchpersistence.internal.disk;

import java.nio.file.FileSystemException;
import java.nio.file.Path;

/**
 * Thrown when a link, a directory or a pipe has the name of a file: it does not belong to the store, and is not
 * followed or opened.
 */
final class NotRegularFileException extends FileSystemException {

    NotRegularFileException(Path file) {
        super(file.toString(), null, "is not a regular file, and is left alone");
    }
}
