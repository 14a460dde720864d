package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.Path;

/**
 * Thrown when a file that may be intact can't be read: no file descriptor is left, the device reports an error, or read
 * permission was removed. Its content is unknown, so nothing may be decided without it.
 */
public final class UnreadableFileException extends IOException {

    UnreadableFileException(Path file, IOException cause) {
        super(
                file + " can't be read: " + cause
                        + ". Nothing is lost by that: start again when it can be read. If it never can, move it out of the"
                        + " directory: then the batches in it are reported and counted as corrupt, and if it is a state-*"
                        + " file, batches whose marks were in it may be sent again",
                cause);
    }
}
