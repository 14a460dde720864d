package io.batchpersistence.internal.disk;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DirectoryLockedException;
import io.batchpersistence.internal.log.LogSanitizer;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Locks a directory for one store. The lock is an operating system lock on the file {@code lock}, so it ends with the
 * process that held it, however that process ended. On network file systems it is only as reliable as their locks.
 *
 * <p>POSIX drops all of a process's locks on a file when the process closes any descriptor of that file, even one that
 * other code opened only for reading. So this class never closes a descriptor of a lock file that this JVM may hold: it
 * asks a JVM-wide registry first. It can't keep other code, such as a backup, from doing so. Therefore the holder takes
 * the lock again periodically ({@link #used}), and the text in the file, which names the holder, is a fence: a process
 * that gets the lock writes its name there before it reads anything else, and a holder that finds another name stops
 * for good ({@link #problem}).
 */
public final class DirectoryLock implements AutoCloseable {

    private static final Logger log = LogSanitizer.logger(DirectoryLock.class);

    /** The name of the lock file. */
    public static final String FILE = "lock";

    /**
     * Prefix of the system properties that record what this JVM holds. System properties, because all class loaders see
     * them: two web applications of one container may each have this library, and share a directory by mistake.
     */
    private static final String HELD = "io.batchpersistence.lock.";

    /**
     * Position of the locked bytes, far behind the text: locked bytes can't be read on Windows. Two bytes are locked,
     * so that one stays locked while the other is locked again.
     */
    private static final long LOCKED_AT = 1L << 30;

    private static final int LOCKS = 2;

    /**
     * Lock files that another copy of this class in this JVM turned out to have locked, although the registry did not
     * say so: closing them would drop its lock.
     */
    private static final ConcurrentMap<Object, RandomAccessFile> NEVER_CLOSED = new ConcurrentHashMap<>();

    /** The permissions of other users. Those of the group may be intended: containers share volumes that way. */
    private static final Set<PosixFilePermission> OTHERS = EnumSet.of(
            PosixFilePermission.OTHERS_READ, PosixFilePermission.OTHERS_WRITE, PosixFilePermission.OTHERS_EXECUTE);

    private static final int MAX_TEXT = 1_000;

    private final Path directory;
    private final Path path;
    private final InThisJvm registered;
    private final RandomAccessFile file;
    private final @Nullable FileLock[] locks;
    private final byte[] name;
    /**
     * Distinguish the directory and the lock file from others that may have their names later; {@code null} where the
     * file system has no file keys.
     */
    private final @Nullable Object directoryKey;

    private final @Nullable Object fileKey;
    private final @Nullable Instant lastUsed;

    /** Guards the file, which has one position. Never held while waiting for anything else, or while logging. */
    private final ReentrantLock using = new ReentrantLock();

    private boolean closed;

    /**
     * When this process last changed the lock file: another time means that another process may have written its name.
     */
    private volatile @Nullable FileTime modified;

    private volatile @Nullable String takenOver;

    /** The problem that the last cleanup found, so that it is logged once. */
    private volatile @Nullable String logged;

    private DirectoryLock(
            Path directory,
            Path path,
            InThisJvm registered,
            RandomAccessFile file,
            @Nullable FileLock[] locks,
            byte[] name,
            @Nullable Object fileKey,
            @Nullable Instant lastUsed)
            throws IOException {
        this.directory = directory;
        this.path = path;
        this.registered = registered;
        this.file = file;
        this.locks = locks;
        this.name = name;
        this.directoryKey = attributes(directory).fileKey();
        this.fileKey = fileKey;
        this.lastUsed = lastUsed;
    }

    /** The registry entries of one holder. */
    private static final class InThisJvm {
        private final Map<String, String> registered = new LinkedHashMap<>();
        private final Path directory;
        private final String holder;

        InThisJvm(Path directory, String holder) {
            this.directory = directory;
            this.holder = holder;
        }

        void register(Object key) {
            String property = HELD + key;
            Object before = System.getProperties().putIfAbsent(property, holder);
            if (before != null) {
                throw inUse(directory, String.valueOf(before));
            }
            registered.put(property, holder);
        }

        void withdraw() {
            registered.forEach(System.getProperties()::remove);
        }
    }

    private static DirectoryLockedException inUse(Path directory, String holder) {
        return DirectoryLockedException.heldByThisProcess(
                directory, holder.lines().findFirst().orElse(""));
    }

    private static BasicFileAttributes attributes(Path path) throws IOException {
        return Files.readAttributes(path, BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS);
    }

    /**
     * Creates the directory if absent, locks it and makes sure that it is durable.
     *
     * @param now goes into the file
     * @throws DirectoryLockedException if another process or another store has it
     * @throws BatchPersistenceException if the path is not a directory or can't be written
     */
    public static DirectoryLock acquire(Disk disk, Path directory, Instant now) {
        if (Files.exists(directory) && !Files.isDirectory(directory)) {
            throw new BatchPersistenceException(
                    "the directory " + directory.toAbsolutePath()
                            + " for batches is a file; remove it or choose another directory",
                    null);
        }
        InThisJvm registered = null;
        boolean acquired = false;
        try {
            // A symbolic link to a directory is accepted.
            if (!Files.isDirectory(directory)) {
                disk.createDirectories(directory);
            }
            Path real = directory.toRealPath();
            String description = description(now);
            registered = new InThisJvm(real, description);
            registered.register(real);
            DirectoryLock lock = lock(real, description, registered);
            lock.used(now);
            acquired = true;
            warnIfOpenToOthers(real);
            forceEntries(disk, real);
            return lock;
        } catch (IOException e) {
            throw new BatchPersistenceException(
                    "the directory " + directory.toAbsolutePath() + " for batches can't be "
                            + (Files.isDirectory(directory) ? "written" : "created") + ": " + reason(e)
                            + "; give the user '" + System.getProperty("user.name")
                            + "' the right to write there, or choose another directory",
                    e);
        } finally {
            if (registered != null && !acquired) {
                registered.withdraw();
            }
        }
    }

    private static DirectoryLock lock(Path directory, String description, InThisJvm registered) throws IOException {
        Path path = directory.resolve(FILE);
        Instant lastUsed = null;
        try {
            lastUsed = attributes(path).lastModifiedTime().toInstant();
        } catch (NoSuchFileException absent) {
            try {
                Files.createFile(path, NioDisk.ownersFile());
            } catch (FileAlreadyExistsException e) {
                log.trace("Another process made it at the same time", e);
            }
        }
        BasicFileAttributes attributes = attributes(path);
        if (!attributes.isRegularFile()) {
            // Not replaced: two processes that did so at the same time would both believe that they have the lock.
            throw new FileSystemException(path.toString(), null, "is not a regular file; remove it");
        }
        Object key = attributes.fileKey();
        if (key != null) {
            // The same file may have another name: a hard link in a copy of the directory, or a mount.
            registered.register(key);
        }
        Object neverClosed = key != null ? key : path;
        RandomAccessFile file = NEVER_CLOSED.remove(neverClosed);
        if (file == null) {
            // Not a channel, which an interrupt would close.
            file = new RandomAccessFile(path.toFile(), "rw");
        }
        @Nullable FileLock[] locks = new FileLock[LOCKS];
        boolean done = false;
        try {
            for (int i = 0; i < LOCKS; i++) {
                locks[i] = file.getChannel().tryLock(LOCKED_AT + i, 1, false);
                if (locks[i] == null) {
                    String holder = read(file).lines().findFirst().orElse("");
                    throw new DirectoryLockedException(directory, holder.isBlank() ? "another process" : holder);
                }
            }
            if (!Objects.equals(key, attributes(path).fileKey())) {
                throw new FileSystemException(
                        path.toString(), null, "was replaced while it was being locked; start again");
            }
            describe(file, description);
            DirectoryLock lock =
                    new DirectoryLock(directory, path, registered, file, locks, bytes(file), key, lastUsed);
            done = true;
            return lock;
        } catch (OverlappingFileLockException e) {
            for (FileLock lock : locks) {
                if (lock != null) {
                    lock.release();
                }
            }
            NEVER_CLOSED.put(neverClosed, file);
            done = true;
            throw inUse(directory, read(file));
        } finally {
            if (!done) {
                file.close();
            }
        }
    }

    /**
     * Makes the directory itself durable. The process that created it may have been killed before that, and a power cut
     * would then remove everything in it. That process may have created parents, too: those that this user can write
     * are forced as well.
     */
    private static void forceEntries(Disk disk, Path directory) {
        Path parent = directory.getParent();
        while (parent != null && Files.isReadable(parent) && Files.isWritable(parent)) {
            try {
                disk.forceDirectory(parent);
            } catch (IOException e) {
                log.warn(
                        "{} could not be forced: {}. If {} was made just now, a power cut may undo that",
                        parent,
                        e.toString(),
                        directory);
                return;
            }
            parent = parent.getParent();
        }
    }

    /** Warns about an existing directory that others can access. Its permissions stay: they may be intended. */
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

    /**
     * Overwrites the existing text, for which there is room even on a full disk. A failure is only logged: the store
     * has to open all the same, so that it can be emptied.
     */
    private static void describe(RandomAccessFile file, String description) {
        try {
            byte[] text = description.getBytes(StandardCharsets.UTF_8);
            file.seek(0);
            file.write(text);
            file.setLength(text.length);
        } catch (IOException e) {
            log.warn("The lock file could not be given the name of its holder: {}", e.toString());
        }
    }

    private static byte[] bytes(RandomAccessFile file) throws IOException {
        byte[] text = new byte[MAX_TEXT];
        file.seek(0);
        int length = 0;
        for (int read; length < MAX_TEXT && (read = file.read(text, length, MAX_TEXT - length)) > 0; ) {
            length += read;
        }
        return Arrays.copyOf(text, length);
    }

    private static String read(RandomAccessFile file) throws IOException {
        return new String(bytes(file), StandardCharsets.UTF_8);
    }

    private static String reason(IOException e) {
        return e instanceof AccessDeniedException ? "access denied" : String.valueOf(e.getMessage());
    }

    /** Describes the holder. The second line makes the description unique. */
    private static String description(Instant now) {
        return "process " + ProcessHandle.current().pid() + " on " + host() + " since " + now + "\n" + UUID.randomUUID()
                + "\n";
    }

    private static String host() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            return "an unnamed host";
        }
    }

    /**
     * Returns why nothing may be written: the directory is no longer where it was locked (deleted, moved away,
     * replaced), or another process has taken it over. Cheap: usually one look at the lock file.
     *
     * @return the reason in plain words, with what to do; {@code null} if there is none, or it can't be determined
     */
    public @Nullable String problem() {
        String forGood = takenOver;
        if (forGood != null) {
            return forGood;
        }
        try {
            BasicFileAttributes found = attributes(path);
            if (!Objects.equals(fileKey, found.fileKey())) {
                return isSameDirectory() ? lockReplaced() : notInPlace();
            }
            return found.lastModifiedTime().equals(modified) ? null : readName();
        } catch (NoSuchFileException e) {
            return isSameDirectory() ? lockDeleted() : notInPlace();
        } catch (IOException e) {
            // The next use of the directory reports what is wrong.
            return null;
        }
    }

    /**
     * Returns why nothing may ever be written here again, once another process has taken the directory over.
     *
     * @return the {@link #problem}; {@code null} if that has not happened
     */
    @Nullable
    String takenOver() {
        return takenOver;
    }

    /** Reads the holder's name from the file and compares it with ours. */
    private @Nullable String readName() throws IOException {
        using.lock();
        try {
            if (closed) {
                return takenOver;
            }
            FileTime before = attributes(path).lastModifiedTime();
            byte[] found = bytes(file);
            if (Arrays.equals(found, name)) {
                // A name written after that changes the time.
                modified = before;
            } else if (takenOver == null) {
                // Not logged here: the caller may be writing, and an appender may persist into this very store.
                takenOver = takenOverBy(new String(found, StandardCharsets.UTF_8));
            }
            return takenOver;
        } finally {
            using.unlock();
        }
    }

    private boolean isSameDirectory() {
        try {
            return Objects.equals(directoryKey, attributes(directory).fileKey());
        } catch (IOException e) {
            return false;
        }
    }

    private String notInPlace() {
        return "the directory " + directory
                + " was deleted, moved away or replaced while it was in use; put it back, or restart"
                + " the application to go on with what is there";
    }

    private String lockDeleted() {
        return "the file " + path
                + " was deleted while it was in use. It keeps other processes out, so nothing is written until"
                + " the application is restarted, which goes on with what is in the directory. Never delete this file: it is no"
                + " obstacle to any start, also after a crash";
    }

    private String lockReplaced() {
        return "the file " + path
                + " was deleted or replaced while it was in use, and there is another one: another process may"
                + " use the directory now, so nothing is written any more. Find out which one (its name is in the file), and"
                + " restart this application with a directory of its own, or when the other one has ended. Never delete this"
                + " file: it is no obstacle to any start, also after a crash";
    }

    private String takenOverBy(String text) {
        String other = text.lines().findFirst().orElse("");
        return "the directory " + directory + " was taken over by " + (other.isBlank() ? "another process" : other)
                + ": the operating system no longer kept it for this process, which happens when the application itself opens"
                + " and closes the file " + path
                + " (a backup, a support bundle). Nothing is written here any more, so that the"
                + " other's batches are safe. Restart this application with a directory of its own, or when the other one has"
                + " ended; exclude this file from what the application reads";
    }

    /**
     * Returns when the previous holder last reported that it was {@linkplain #used using} the directory.
     *
     * @return {@code null} if there was no previous holder
     */
    public @Nullable Instant lastUsed() {
        return lastUsed;
    }

    /**
     * Records that the directory is in use, for the next holder, and checks that it is still ours. Recorded as the
     * modification time of the lock file. Failures are only logged.
     *
     * @param now the current time
     */
    public void used(Instant now) {
        lockAgain();
        try {
            // Checking the time of the file is not enough once in a while: some file systems count in seconds.
            String problem = problem();
            if (problem == null) {
                problem = readName();
            }
            if (problem != null) {
                if (!problem.equals(logged)) {
                    logged = problem;
                    log.error("Nothing is written any more: {}", problem);
                }
                return;
            }
            logged = null;
            // By name, through java.io.File: java.nio.file.Files opens the file, and closing it drops the lock.
            if (!path.toFile().setLastModified(now.toEpochMilli())) {
                log.debug("The time of {} could not be set", path);
            }
            readName();
        } catch (IOException e) {
            log.debug("The file {} could not be read", path, e);
        }
    }

    /**
     * Takes the lock again, in case the operating system has dropped it; one of the two bytes stays locked meanwhile. A
     * lock that another process has by now is left alone.
     */
    private void lockAgain() {
        if (!using.tryLock()) {
            // Another thread is using the file.
            return;
        }
        Exception failure = null;
        try {
            for (int i = 0; i < LOCKS && !closed; i++) {
                FileLock held = locks[i];
                locks[i] = null;
                if (held != null) {
                    held.release();
                }
                locks[i] = file.getChannel().tryLock(LOCKED_AT + i, 1, false);
                if (locks[i] == null) {
                    // Another process is trying to take the lock. If it succeeds, its name will be in the file.
                    return;
                }
            }
        } catch (IOException | OverlappingFileLockException e) {
            failure = e;
        } finally {
            using.unlock();
        }
        if (failure != null) {
            log.debug("The file {} could not be locked again; it is tried with the next cleanup", path, failure);
        }
    }

    /**
     * Restricts a file system to this directory while it is in place and ours.
     *
     * @return a disk that refuses operations whose path would lead to a directory other than the locked one, forces
     *     that would report durability in a deleted directory, and writes to a directory that another process has taken
     *     over
     */
    public Disk guard(Disk disk) {
        return new GuardedDisk(disk, this);
    }

    @Override
    public void close() {
        using.lock();
        try {
            closed = true;
            // This also releases the locks.
            file.close();
        } catch (IOException e) {
            // Ignored: this process gives the lock up either way; the rest is up to the operating system.
        } finally {
            using.unlock();
            registered.withdraw();
        }
    }
}
