package io.batchpersistence.internal.disk;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DirectoryLockedException;
import io.batchpersistence.SingleLine;
import java.io.IOException;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.Collections;
import java.util.EnumSet;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Keeps a directory for one store. The lock is the operating system's, on a file {@code lock}, so it is gone with the process
 * that held it, however that ended; the text in the file only says who it is. On network file systems it is as good as their
 * locks are.
 */
public final class DirectoryLock implements AutoCloseable {

    private static final Logger log = SingleLine.logger(DirectoryLock.class);

    /** The name of the lock file. */
    public static final String FILE = "lock";

    /**
     * Directories held by this process, with the description of the holder. To be asked before the file is touched: closing
     * any descriptor of a file drops all POSIX locks this process has on it.
     */
    private static final ConcurrentMap<Path, String> HELD_HERE = new ConcurrentHashMap<>();

    /** Those of a group may be meant: containers share volumes so. */
    private static final Set<PosixFilePermission> OTHERS = EnumSet.of(
            PosixFilePermission.OTHERS_READ, PosixFilePermission.OTHERS_WRITE, PosixFilePermission.OTHERS_EXECUTE);

    private static final Set<OpenOption> OPTIONS = Set.of(
            StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS);

    private final Path directory;
    private final FileChannel channel;
    private final FileLock lock;
    /** What tells this lock file from any other that may have its name later; {@code null} where files have no such thing. */
    private final @Nullable Object fileKey;

    private final @Nullable Instant lastUsed;

    private DirectoryLock(Path directory, FileChannel channel, FileLock lock, @Nullable Instant lastUsed)
            throws IOException {
        this.lastUsed = lastUsed;
        this.directory = directory;
        this.channel = channel;
        this.lock = lock;
        this.fileKey = fileKey(directory);
    }

    private static @Nullable Object fileKey(Path directory) throws IOException {
        return Files.readAttributes(directory.resolve(FILE), BasicFileAttributes.class)
                .fileKey();
    }

    /**
     * Creates the directory if absent and locks it.
     *
     * @param disk the file system
     * @param directory the directory
     * @param now goes into the file
     * @return the lock, to be closed
     * @throws DirectoryLockedException if somebody else has it
     * @throws BatchPersistenceException if the directory is none or can't be written
     */
    public static DirectoryLock acquire(Disk disk, Path directory, Instant now) {
        if (Files.exists(directory) && !Files.isDirectory(directory)) {
            throw new BatchPersistenceException(
                    "the directory " + directory.toAbsolutePath()
                            + " for batches is a file; remove it or choose another directory",
                    null);
        }
        Path key = null;
        boolean acquired = false;
        try {
            if (!Files.isDirectory(directory)) { // which may be a link to one
                disk.createDirectories(directory);
            }
            Path real = directory.toRealPath();
            String description = description(now);
            String holder = HELD_HERE.putIfAbsent(real, description);
            if (holder != null) {
                throw new DirectoryLockedException(real, "another store of this application (" + holder + ")");
            }
            key = real;
            DirectoryLock lock = lock(real, description);
            lock.used(now);
            acquired = true;
            warnIfOpenToOthers(real);
            return lock;
        } catch (IOException e) {
            throw new BatchPersistenceException(
                    "the directory " + directory.toAbsolutePath() + " for batches can't be "
                            + (Files.isDirectory(directory) ? "written" : "created") + ": " + reason(e)
                            + "; give the user '" + System.getProperty("user.name")
                            + "' the right to write there, or choose another directory",
                    e);
        } finally {
            if (key != null && !acquired) {
                HELD_HERE.remove(key);
            }
        }
    }

    /** The lock has to be a channel's, and an interrupt would close the channel: it waits until we have it. */
    private static DirectoryLock lock(Path directory, String description) throws IOException {
        boolean interrupted = Thread.interrupted();
        try {
            return lockUninterrupted(directory, description);
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private static DirectoryLock lockUninterrupted(Path directory, String description) throws IOException {
        Path file = directory.resolve(FILE);
        if (Files.exists(file, LinkOption.NOFOLLOW_LINKS) && !Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)) {
            // Not replaced: two processes that did so at once would both believe to have the lock.
            throw new FileSystemException(file.toString(), null, "is not a regular file; remove it");
        }
        Instant lastUsed = Files.exists(file) ? Files.getLastModifiedTime(file).toInstant() : null;
        FileChannel channel = FileChannel.open(file, OPTIONS, NioDisk.ownersFile());
        try {
            FileLock lock = channel.tryLock();
            if (lock == null) {
                throw new DirectoryLockedException(directory, holder(channel));
            }
            describe(channel, description);
            return new DirectoryLock(directory, channel, lock, lastUsed);
        } catch (IOException | RuntimeException e) {
            channel.close();
            throw e;
        }
    }

    /** A directory that was there before us keeps its permissions: somebody may have given them on purpose. */
    private static void warnIfOpenToOthers(Path directory) {
        try {
            PosixFileAttributeView view = Files.getFileAttributeView(directory, PosixFileAttributeView.class);
            if (view == null) {
                return;
            }
            Set<PosixFilePermission> permissions = view.readAttributes().permissions();
            if (!Collections.disjoint(permissions, OTHERS)) {
                log.warn(
                        "Other users can look into {} ({}), where log entries are kept; 'chmod 700' keeps them out",
                        directory,
                        PosixFilePermissions.toString(permissions));
            }
        } catch (IOException e) {
            log.debug("The permissions of {} could not be read", directory, e);
        }
    }

    /** On a full disk there may be no room for it; the store has to open all the same, to be emptied. */
    private static void describe(FileChannel channel, String description) {
        try {
            channel.truncate(0);
            channel.write(ByteBuffer.wrap(description.getBytes(StandardCharsets.UTF_8)), 0);
        } catch (IOException e) {
            log.warn("The lock file could not be given the name of its holder: {}", e.toString());
        }
    }

    private static String reason(IOException e) {
        return e instanceof AccessDeniedException ? "access denied" : String.valueOf(e.getMessage());
    }

    private static String description(Instant now) {
        return "process " + ProcessHandle.current().pid() + " on " + host() + " since " + now;
    }

    private static String host() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            return "an unnamed host";
        }
    }

    private static String holder(FileChannel channel) throws IOException {
        ByteBuffer text = ByteBuffer.allocate(1000);
        channel.read(text, 0);
        String holder = StandardCharsets.UTF_8.decode(text.flip()).toString().strip();
        return holder.isEmpty() ? "another process" : holder;
    }

    /**
     * Whether the directory is still where it was locked: not deleted, not moved away, no other put in its place.
     *
     * @return {@code true} also if that can't be found out
     */
    public boolean isInPlace() {
        try {
            return Objects.equals(fileKey, fileKey(directory));
        } catch (NoSuchFileException e) {
            return false;
        } catch (IOException e) {
            return true; // whoever is about to use it will learn what is wrong
        }
    }

    /**
     * When the holder before this one last said that it was {@linkplain #used using} the directory.
     *
     * @return {@code null} if there was none
     */
    public @Nullable Instant lastUsed() {
        return lastUsed;
    }

    /**
     * Leaves word that the directory is in use, for the next holder. Kept as the time of the lock file's last change; what fails
     * is no reason to fail.
     *
     * @param now the time
     */
    public void used(Instant now) {
        // By its name, as java.io.File does it: java.nio.file.Files opens the file for that, and closing it drops the
        // lock.
        if (isInPlace() && !directory.resolve(FILE).toFile().setLastModified(now.toEpochMilli())) {
            log.debug("The time of {} could not be set", directory.resolve(FILE));
        }
    }

    /**
     * Something like a file system, limited to a directory that is in place.
     *
     * @param disk the file system
     * @return refuses what would go by the name of the directory to another one than was locked, or pretend to be durable in
     *     one that is deleted
     */
    public Disk guard(Disk disk) {
        return new GuardedDisk(disk, this);
    }

    /**
     * Why nothing can be written when it is not {@linkplain #isInPlace in place}.
     *
     * @return in words for a person
     */
    public String notInPlace() {
        return "the directory " + directory
                + " was deleted, moved away or replaced while it was in use; put it back, or restart"
                + " the application to go on with what is there";
    }

    /** Gives the directory back. */
    @Override
    public void close() {
        try {
            lock.release();
            channel.close();
        } catch (IOException e) {
            // The process is letting go of it either way; the operating system has the last word.
        } finally {
            HELD_HERE.remove(directory);
        }
    }
}
