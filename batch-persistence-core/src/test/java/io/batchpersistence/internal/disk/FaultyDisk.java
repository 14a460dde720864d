package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/**
 * A disk whose operations fail or block on request, and are counted. After a failed force, a {@link MemoryDisk} below
 * has dropped the dirty pages, as kernels do. Thread-safe.
 */
public final class FaultyDisk extends ForwardingDisk {

    public enum Operation {
        CREATE,
        WRITE,
        FORCE,
        TRUNCATE,
        MOVE,
        DELETE,
        FORCE_DIRECTORY,
        READ,
        OPEN,
        SIZE,
        LIST,
        CLOSE;

        /** Whether the operation changes something. */
        public boolean changes() {
            return compareTo(READ) < 0;
        }

        /** Whether the operation only reads state. */
        public boolean looks() {
            return this == READ || this == SIZE || this == LIST;
        }
    }

    public static final class Fault {
        private final Operation operation;
        private final Predicate<String> file;
        private final String message;
        private int skip;
        private int times;
        private int partly;

        private Fault(Operation operation, Predicate<String> file, String message) {
            this.operation = operation;
            this.file = file;
            this.message = message;
            this.times = Integer.MAX_VALUE;
        }

        /** Sets how many operations succeed before the fault. */
        public Fault after(int successes) {
            skip = successes;
            return this;
        }

        /** Sets how many operations fail. By default all of them fail. */
        public Fault times(int failures) {
            times = failures;
            return this;
        }

        /** Sets how many bytes of the write reach the disk before it fails. */
        public Fault partly(int bytes) {
            partly = bytes;
            return this;
        }
    }

    private @Nullable Fault fault;
    private String gated = "";
    private @Nullable CountDownLatch gate;
    private volatile @Nullable Thread lastForcing;
    private final AtomicInteger segmentForces = new AtomicInteger();
    private final AtomicInteger waiting = new AtomicInteger();
    private final AtomicLong bytesRead = new AtomicLong();
    private @Nullable Random random;
    private double rate;
    private Predicate<Operation> some = operation -> true;
    private int changes;
    private volatile int memory = Integer.MAX_VALUE;
    private int failingChange = -1;
    private int looks;
    private int firstFailingLook = Integer.MAX_VALUE;
    private int lastFailingLook = -1;

    public FaultyDisk(Disk disk) {
        super(disk);
    }

    /**
     * From now on, operations of that kind fail on files whose name contains {@code file}. Replaces the previous fault.
     */
    public synchronized Fault fail(Operation operation, String file, String message) {
        Fault begun = new Fault(operation, name -> name.contains(file), message);
        fault = begun;
        return begun;
    }

    /** From now on, a share of the operations of those kinds fails. */
    public synchronized void failSome(double share, Random choice, Predicate<Operation> kinds) {
        rate = share;
        random = choice;
        some = kinds;
    }

    /** Fails a single changing operation, counted from now on. */
    public synchronized void failChange(int number) {
        changes = 0;
        failingChange = number;
    }

    /** From now on, reads of more bytes fail with an OutOfMemoryError. */
    public void memory(int bytes) {
        memory = bytes;
    }

    /** The number of changing operations since {@link #failChange}. */
    public synchronized int changes() {
        return changes;
    }

    /**
     * Fails some read-only operations, counted from now on.
     *
     * @param first the number of the first one that fails; those before it succeed
     * @param times how many fail in a row
     */
    public synchronized void failLooks(int first, int times) {
        looks = 0;
        firstFailingLook = first;
        lastFailingLook = times > Integer.MAX_VALUE - first ? Integer.MAX_VALUE : first + times - 1;
    }

    /** The number of read-only operations since {@link #failLooks}. */
    public synchronized int looks() {
        return looks;
    }

    public synchronized void heal() {
        fault = null;
        random = null;
        failingChange = -1;
        firstFailingLook = Integer.MAX_VALUE;
    }

    /** The number of bytes read through this disk. */
    public long bytesRead() {
        return bytesRead.get();
    }

    /** From now on, every force of a segment waits for the latch that is returned. */
    public CountDownLatch blockForces() {
        return blockForces(".segment");
    }

    /** From now on, every force of a file with this name suffix waits for the latch that is returned. */
    public synchronized CountDownLatch blockForces(String ending) {
        gated = ending;
        gate = new CountDownLatch(1);
        return gate;
    }

    public int waitingForces() {
        return waiting.get();
    }

    /** The last thread that forced a segment. */
    public @Nullable Thread lastForcing() {
        return lastForcing;
    }

    public int segmentForces() {
        return segmentForces.get();
    }

    private synchronized @Nullable Fault hit(Operation operation, Path file) {
        Random choice = random;
        if (choice != null && some.test(operation) && choice.nextDouble() < rate) {
            return new Fault(
                            operation,
                            name -> true,
                            choice.nextBoolean() ? "Input/output error" : "No space left on device")
                    .partly(choice.nextInt(2_000));
        }
        if (operation.changes() && ++changes == failingChange) {
            return new Fault(operation, name -> true, "Input/output error").partly(changes * 31 % 700);
        }
        if (operation.looks() && ++looks >= firstFailingLook && looks <= lastFailingLook) {
            return new Fault(operation, name -> true, "Too many open files");
        }
        Fault current = fault;
        if (current == null
                || current.operation != operation
                || !current.file.test(String.valueOf(file.getFileName()))) {
            return null;
        }
        if (current.skip > 0) {
            current.skip--;
            return null;
        }
        if (current.times == 0) {
            return null;
        }
        current.times--;
        return current;
    }

    private void check(Operation operation, Path file) throws IOException {
        Fault hit = hit(operation, file);
        if (hit != null) {
            throw new IOException(hit.message);
        }
    }

    @Override
    public DiskFile create(Path file) throws IOException {
        check(Operation.CREATE, file);
        return super.create(file);
    }

    @Override
    public DiskFile open(Path file) throws IOException {
        check(Operation.OPEN, file);
        return super.open(file);
    }

    @Override
    protected DiskFile wrap(Path path, DiskFile file) {
        return new FaultyFile(path, file);
    }

    @Override
    public DiskReader openForReading(Path file) throws IOException {
        check(Operation.OPEN, file);
        return super.openForReading(file);
    }

    @Override
    protected DiskReader wrap(Path path, DiskReader reader) {
        return new ForwardingReader(reader) {
            @Override
            public int read(long offset, byte[] into, int at, int length) throws IOException {
                check(Operation.READ, path);
                int read = reader.read(offset, into, at, length);
                checkMemory(read);
                return read;
            }

            @Override
            public void close() throws IOException {
                // Closes the file although the operation reports a failure.
                reader.close();
                check(Operation.CLOSE, path);
            }
        };
    }

    private void checkMemory(int read) {
        if (read > memory) {
            throw new OutOfMemoryError("Java heap space");
        }
        bytesRead.addAndGet(read);
    }

    @Override
    public byte[] read(Path file, long offset, int length) throws IOException {
        check(Operation.READ, file);
        byte[] bytes = disk.read(file, offset, length);
        checkMemory(bytes.length);
        return bytes;
    }

    @Override
    public long size(Path file) throws IOException {
        check(Operation.SIZE, file);
        return disk.size(file);
    }

    @Override
    public List<Path> list(Path directory) throws IOException {
        check(Operation.LIST, directory);
        return disk.list(directory);
    }

    @Override
    public void move(Path from, Path to) throws IOException {
        check(Operation.MOVE, to);
        disk.move(from, to);
    }

    @Override
    public void delete(Path file) throws IOException {
        check(Operation.DELETE, file);
        disk.delete(file);
    }

    @Override
    public void forceDirectory(Path directory) throws IOException {
        check(Operation.FORCE_DIRECTORY, directory);
        disk.forceDirectory(directory);
    }

    private void passGate(Path file) {
        CountDownLatch latch;
        synchronized (this) {
            latch = file.getFileName().toString().endsWith(gated) ? gate : null;
        }
        if (latch != null) {
            waiting.incrementAndGet();
            try {
                latch.await();
            } catch (InterruptedException e) {
                throw new IllegalStateException("the writer thread was interrupted", e);
            } finally {
                waiting.decrementAndGet();
            }
        }
    }

    private final class FaultyFile extends ForwardingFile {

        private final Path path;

        FaultyFile(Path path, DiskFile file) {
            super(file);
            this.path = path;
        }

        @Override
        public void write(long offset, byte[] bytes, int from, int length) throws IOException {
            Fault hit = hit(Operation.WRITE, path);
            if (hit != null) {
                file.write(offset, bytes, from, Math.min(hit.partly, length));
                throw new IOException(hit.message);
            }
            file.write(offset, bytes, from, length);
        }

        @Override
        public void force() throws IOException {
            if (path.getFileName().toString().endsWith(".segment")) {
                segmentForces.incrementAndGet();
                lastForcing = Thread.currentThread();
            }
            passGate(path);
            Fault hit = hit(Operation.FORCE, path);
            if (hit != null) {
                if (file instanceof MemoryDisk.OpenFile inMemory) {
                    inMemory.drop();
                }
                throw new IOException(hit.message);
            }
            file.force();
        }

        @Override
        public void truncate(long size) throws IOException {
            check(Operation.TRUNCATE, path);
            file.truncate(size);
        }

        @Override
        public void close() throws IOException {
            // Closes the file although the operation reports a failure.
            file.close();
            check(Operation.CLOSE, path);
        }
    }
}
