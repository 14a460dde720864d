package io.batchpersistence.internal.disk;

import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.atomic.LongAdder;

/** Counts the forces of a disk and measures how long they take, failures included. */
public final class MeasuredDisk extends ForwardingDisk {

    private final LongAdder forces = new LongAdder();
    private final LongAdder nanos = new LongAdder();

    public MeasuredDisk(Disk disk) {
        super(disk);
    }

    /** Forces of files and of directories that have ended. */
    public long forces() {
        return forces.sum();
    }

    /** The nanoseconds of all forces together. */
    public long forceNanos() {
        return nanos.sum();
    }

    private void forced(long began) {
        nanos.add(System.nanoTime() - began);
        forces.increment();
    }

    @Override
    protected DiskFile wrap(Path path, DiskFile file) {
        return new MeasuredFile(file);
    }

    @Override
    public void forceDirectory(Path directory) throws IOException {
        long began = System.nanoTime();
        try {
            disk.forceDirectory(directory);
        } finally {
            forced(began);
        }
    }

    private final class MeasuredFile extends ForwardingFile {

        MeasuredFile(DiskFile file) {
            super(file);
        }

        @Override
        public void force() throws IOException {
            long began = System.nanoTime();
            try {
                file.force();
            } finally {
                forced(began);
            }
        }
    }
}
