package io.batchpersistence.internal.jsonfile;

import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.internal.codec.BatchLimits;
import io.batchpersistence.internal.codec.DamagedPayloadException;
import io.batchpersistence.internal.disk.Disk;
import io.batchpersistence.internal.disk.Disk.DiskFile;
import io.batchpersistence.internal.disk.UnreadableFileException;
import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.internal.store.IndexedBatchStore;
import io.batchpersistence.internal.store.PayloadLog;
import io.batchpersistence.internal.store.PersistedState;
import io.batchpersistence.internal.store.RecordPointer;
import io.batchpersistence.spi.NewBatch;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Payloads as one JSON document per batch. Written to a temporary file, forced, renamed into place; the directory is
 * forced once for all that are written together. A document contains the state of its batch, so a person can read it
 * there, and change it while the store is closed.
 *
 * <p>Files of removed batches are deleted after the journal has been forced, so with a short delay.
 */
public final class JsonFileLog implements PayloadLog {

    private static final Logger log = LogSanitizer.logger(JsonFileLog.class);

    /** Number of files to be deleted that is worth forcing the journal for. */
    private static final int MIN_DELETIONS_WORTH_FORCE = 256;

    private static final int MAX_DOCUMENT = BatchLimits.MAX_BYTES;

    private static final Pattern LOOKS_LIKE_OURS =
            Pattern.compile("batch_.*\\.json(\\.tmp)?", Pattern.CASE_INSENSITIVE | Pattern.DOTALL);

    private final Disk disk;
    private final DiskStoreOptions options;
    private final ConcurrentMap<Long, String> names = new ConcurrentHashMap<>();
    private final Map<Long, Integer> sizes = new HashMap<>();
    private final Set<String> taken = new HashSet<>();
    /** Batches that are gone, but whose files still exist. */
    private final Map<Long, String> leftOver = new LinkedHashMap<>();

    private final AtomicLong diskUsage = new AtomicLong();
    /**
     * Whether a document may have been replaced since the directory was forced. Initially true: a process that was
     * killed may have replaced what was found when the store was opened.
     */
    private boolean renamed = true;

    private volatile @Nullable IOException markFailure;

    /** Documents that are behind the journal, because they could not be written. */
    private final Map<Long, Behind> behind = new LinkedHashMap<>();

    private record Behind(RecordPointer pointer, PersistedState persistedState) {}

    /** A document and where it is: there may be identical copies of it. */
    private record LoadedFile(JsonBatchFile document, Path path, int size) {
        boolean hasNameOfItsId() {
            return JsonBatchFile.name(document.id()).equals(path.getFileName().toString());
        }

        boolean isGone(Loading loading) {
            return document.sequence() != 0 && loading.isGone(document.sequence());
        }
    }

    /** A batch checked and measured on its caller's thread. */
    private record EncodedBatch(JsonBatchFile document, int size) implements Encoded {}

    public JsonFileLog(Disk disk, DiskStoreOptions options) {
        this.disk = disk;
        this.options = options;
    }

    // ---- loading ---------------------------------------------------------------------------------

    @Override
    public void load(Loading loading) throws IOException {
        List<LoadedFile> documents = new ArrayList<>();
        // Done after all files are read: if one can't be, the next opening must find, and count, everything that this
        // one has found.
        List<Runnable> asides = new ArrayList<>();
        for (Path path : disk.list(options.directory())) {
            String name = path.getFileName().toString();
            if (name.startsWith("batch_") && name.endsWith(".json.tmp")) {
                // It was being written, and was not acknowledged.
                disk.delete(path);
            } else if (name.endsWith(".segment")) {
                PayloadLog.refuseOther(disk, path, "segment");
            } else if (name.startsWith("batch_") && name.endsWith(".json")) {
                try {
                    documents.add(read(path));
                } catch (DamagedPayloadException e) {
                    asides.add(() -> setAside(path, e, loading));
                } catch (UnreadableFileException e) {
                    throw e;
                } catch (IOException e) {
                    // Not a regular file, or gone meanwhile.
                    asides.add(() -> setAside(path, e, loading));
                }
            } else if (LOOKS_LIKE_OURS.matcher(name).matches()) {
                loading.damaged(
                        path,
                        0,
                        0,
                        "it looks like a batch, but its name is not batch_….json in lower case, so it is not read;"
                                + " left as it is",
                        null,
                        null,
                        new long[0]);
            }
        }
        documents.sort(
                Comparator.comparing((LoadedFile found) -> found.document().sequence() == 0)
                        .thenComparing(found -> found.document().sequence())
                        .thenComparing(found -> found.document().createdAt())
                        .thenComparing(found -> found.document().id()));
        Map<String, LoadedFile> owners = new HashMap<>();
        for (LoadedFile each : documents) {
            if (each.hasNameOfItsId() && !each.isGone(loading)) {
                owners.put(each.document().id(), each);
            }
        }
        List<LoadedFile> withoutNumber = new ArrayList<>();
        for (LoadedFile each : documents) {
            JsonBatchFile document = each.document();
            Path path = each.path();
            LoadedFile owner = owners.getOrDefault(document.id(), each);
            if (owner.document().sequence() != document.sequence() && !each.isGone(loading)) {
                // Not a copy, and not where the store would have put it: it had another id once, so it must not
                // displace the owner.
                asides.add(() -> setAside(
                        path,
                        "it has the id of " + owner.path().getFileName() + ", to which that belongs",
                        document.collectorType(),
                        document.sequence(),
                        loading));
            } else if (each.isGone(loading)) {
                leftOver.put(document.sequence(), path.getFileName().toString());
            } else if (document.sequence() == 0 || names.containsKey(document.sequence())) {
                withoutNumber.add(each);
            } else {
                found(document, path, document.sequence(), each.size(), loading);
            }
        }
        asides.forEach(Runnable::run);
        for (LoadedFile each : withoutNumber) {
            adopt(each, loading);
        }
    }

    private LoadedFile read(Path path) throws IOException {
        long size = disk.size(path);
        if (size > MAX_DOCUMENT) {
            throw new DamagedPayloadException(
                    "it has " + size + " bytes, but a batch can have at most " + MAX_DOCUMENT, null);
        }
        try {
            return new LoadedFile(
                    JsonBatchFile.parse(
                            new DocumentStream(path), options.clock().instant()),
                    path,
                    (int) size);
        } catch (UncheckedIOException e) {
            // Thrown by the stream: the bytes were not read, so nothing is known about them.
            throw e.getCause();
        }
    }

    private void setAside(Path path, Exception why, Loading loading) {
        setAside(path, String.valueOf(why.getMessage()), null, 0, loading);
    }

    private void setAside(Path path, String why, @Nullable String collectorType, long sequence, Loading loading) {
        boolean kept = loading.damaged(path, 0, size(path), why, null, collectorType, new long[] {sequence});
        try {
            if (kept) {
                disk.delete(path);
            } else {
                disk.move(path, path.resolveSibling(path.getFileName() + ".damaged"));
            }
        } catch (IOException again) {
            log.warn("{} could not be set aside: {}", path, again.toString());
        }
    }

    /** The size of a file; 0 if it can't be determined. */
    private long size(Path path) {
        try {
            return disk.size(path);
        } catch (IOException e) {
            return 0;
        }
    }

    /**
     * Reads a document that is not replaced meanwhile, piece by piece: it may not be one of ours, and larger than fits
     * in memory.
     */
    private final class DocumentStream extends InputStream {
        private static final int PIECE = 64 << 10;

        private final Path path;
        private byte[] piece = {};
        private int at;
        private long read;
        private boolean last;

        DocumentStream(Path path) {
            this.path = path;
        }

        private boolean isAtEnd() {
            if (at == piece.length && !last) {
                try {
                    piece = disk.read(path, read, PIECE);
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
                at = 0;
                read += piece.length;
                last = piece.length < PIECE;
            }
            return at == piece.length;
        }

        @Override
        public int read() {
            return isAtEnd() ? -1 : piece[at++] & 0xFF;
        }

        @Override
        public int read(byte[] into, int from, int length) {
            if (length == 0) {
                return 0;
            }
            if (isAtEnd()) {
                return -1;
            }
            int n = Math.min(length, piece.length - at);
            System.arraycopy(piece, at, into, from, n);
            at += n;
            return n;
        }
    }

    /**
     * Adopts a document put there by a person, or by the program that this store replaces: it gets a number of its own.
     */
    private void adopt(LoadedFile found, Loading loading) {
        Path path = found.path();
        long sequence = loading.newSequence();
        try {
            found(found.document(), path, sequence, adopt(path, sequence), loading);
        } catch (DamagedPayloadException e) {
            // Its entries are damaged; only adopting checks them.
            setAside(path, e, loading);
        } catch (IOException e) {
            // Left where it is: the next opening may be able to adopt it.
            loading.damaged(path, 0, 0, "can't be taken: " + e, null, null, new long[0]);
        }
    }

    private void found(JsonBatchFile document, Path path, long sequence, int size, Loading loading) {
        String name = path.getFileName().toString();
        names.put(sequence, name);
        taken.add(name);
        resized(sequence, size);
        loading.found(
                new RecordPointer(sequence, 0, 0, size),
                IndexedBatchStore.idHash(document.id()),
                document.collectorType(),
                document.createdAt().toEpochMilli(),
                document.entryCount(),
                document.persistedState());
    }

    private int adopt(Path path, long sequence) throws IOException {
        JsonBatchFile whole = JsonBatchFile.parse(
                disk.read(path, 0, MAX_DOCUMENT), true, options.clock().instant());
        byte[] bytes = whole.with(sequence, whole.persistedState()).toBytes();
        if (bytes.length > MAX_DOCUMENT) {
            throw new DamagedPayloadException("as it is written here it would have " + bytes.length + " bytes", null);
        }
        replace(path, bytes);
        disk.forceDirectory(options.directory());
        return bytes.length;
    }

    // ---- writing ---------------------------------------------------------------------------------

    @Override
    public Encoded encode(NewBatch batch, long idHash) {
        long createdAt = batch.createdAt().toEpochMilli();
        JsonBatchFile document = new JsonBatchFile(
                batch.id(),
                batch.collectorType(),
                batch.createdAt(),
                // As long as any, so that the size is never too small.
                Long.MAX_VALUE,
                new PersistedState(false, createdAt, 0, Long.MAX_VALUE, 0, null),
                batch.context(),
                batch.entries(),
                batch.entries().size());
        int size = document.toBytes().length;
        BatchLimits.check(batch.entries(), size);
        if (size > MAX_DOCUMENT) {
            throw new IllegalArgumentException("the batch '" + LogSanitizer.of(batch.id()) + "' has " + size
                    + " bytes as JSON, but a batch can have at most " + MAX_DOCUMENT + "; split its "
                    + batch.entries().size() + " entries into several batches");
        }
        return new EncodedBatch(document, size);
    }

    @Override
    public boolean needsJournalForced(List<Append> group) {
        return !leftOver.isEmpty()
                && group.stream()
                        .map(append ->
                                ((EncodedBatch) append.encoded()).document().id())
                        .anyMatch(id -> leftOver.containsValue(JsonBatchFile.name(id)));
    }

    /** A document that is in place, but not durable yet. */
    private record Written(Append append, String name, RecordPointer pointer) {}

    @Override
    public void write(List<Append> group) {
        try {
            bringUpToDate();
        } catch (IOException e) {
            log.debug("The disk still fails", e);
        }
        List<Written> written = new ArrayList<>();
        for (Append append : group) {
            JsonBatchFile document = ((EncodedBatch) append.encoded()).document();
            String name = JsonBatchFile.name(document.id());
            boolean ours = false;
            try {
                if (leftOver.containsValue(name)) {
                    throw new IOException(
                            "the file " + name
                                    + " of the batch that had the id before can't be deleted before its end is durable in the state journal");
                }
                if (!taken.add(name)) {
                    throw new IOException("the file " + name + " is another batch's; choose another id");
                }
                ours = true;
                byte[] bytes = document.with(append.sequence(), document.persistedState())
                        .toBytes();
                RecordPointer pointer = new RecordPointer(append.sequence(), 0, 0, bytes.length);
                resized(append.sequence(), bytes.length);
                names.put(append.sequence(), name);
                replace(path(name), bytes);
                written.add(new Written(append, name, pointer));
            } catch (IOException | RuntimeException | Error e) {
                append.failed(e);
                if (ours) {
                    takeBack(append.sequence(), name);
                }
            }
        }
        if (written.isEmpty()) {
            return;
        }
        try {
            if (options.sync() == SyncPolicy.ALWAYS) {
                disk.forceDirectory(options.directory());
            }
        } catch (IOException | RuntimeException | Error e) {
            for (Written each : written) {
                each.append.failed(e);
                takeBack(each.append.sequence(), each.name);
            }
            forceTakenBack();
            return;
        }
        for (Written each : written) {
            // Nothing can fail any more.
            each.append.stored(each.pointer);
        }
    }

    /** Removes a batch whose caller learns that it was not stored: it must not turn up later. */
    private void takeBack(long sequence, String name) {
        while (true) {
            try {
                // In case it can't be deleted.
                leftOver.put(sequence, name);
                names.remove(sequence);
                disk.delete(path(name + ".tmp"));
                disk.delete(path(name));
                leftOver.remove(sequence);
                forget(sequence, name);
                return;
            } catch (IOException e) {
                log.warn("{} could not be deleted: {}", name, e.toString());
                return;
            } catch (OutOfMemoryError e) {
                // Memory becomes free sooner or later, or the process is about to end.
                Thread.onSpinWait();
            }
        }
    }

    private void forceTakenBack() {
        try {
            disk.forceDirectory(options.directory());
        } catch (IOException e) {
            log.warn(
                    "{} could not be forced: {}; a power cut may bring back what was refused",
                    options.directory(),
                    e.toString());
        }
    }

    /** Forgets a batch whose file is deleted. */
    private void forget(long sequence, String name) {
        taken.remove(name);
        Integer size = sizes.remove(sequence);
        diskUsage.addAndGet(size == null ? 0 : -size);
    }

    private void replace(Path target, byte[] bytes) throws IOException {
        Path aside = target.resolveSibling(target.getFileName() + ".tmp");
        disk.delete(aside);
        try (DiskFile file = disk.create(aside)) {
            file.write(0, bytes, 0, bytes.length);
            if (options.sync() != SyncPolicy.NEVER) {
                file.force();
            }
        }
        disk.move(aside, target);
    }

    private Path path(String name) {
        return options.directory().resolve(name);
    }

    @Override
    public void force() throws IOException {
        disk.forceDirectory(options.directory());
    }

    // ---- reading ---------------------------------------------------------------------------------

    @Override
    public Header header(RecordPointer pointer) throws IOException {
        return header(read(pointer, false));
    }

    @Override
    public Content content(RecordPointer pointer) throws IOException {
        JsonBatchFile document = read(pointer, true);
        return new Content(header(document), document.entries());
    }

    private static Header header(JsonBatchFile document) {
        return new Header(
                document.id(),
                document.collectorType(),
                document.createdAt(),
                document.context(),
                document.entryCount());
    }

    /**
     * Reads a document in one go: a size determined first would be wrong by the time a changed document has been
     * renamed into place.
     */
    private JsonBatchFile read(RecordPointer pointer, boolean withEntries) throws IOException {
        Path path = file(pointer);
        byte[] bytes = disk.read(path, 0, MAX_DOCUMENT);
        return JsonBatchFile.parse(bytes, withEntries, options.clock().instant());
    }

    @Override
    public Path file(RecordPointer pointer) {
        String name = names.get(pointer.sequence());
        // The batch is gone meanwhile: use a file that does not exist.
        return path(name == null ? "batch_gone.json" : name);
    }

    // ---- changing and giving up ------------------------------------------------------------------

    @Override
    public void changed(RecordPointer pointer, PersistedState persistedState) {
        long sequence = pointer.sequence();
        if (names.containsKey(sequence)) {
            behind.remove(sequence);
            try {
                bringUpToDate(pointer, persistedState);
            } catch (IOException e) {
                behind.put(sequence, new Behind(pointer, persistedState));
                markFailure = e;
                log.warn("{} could not be brought up to date: {}; it is tried again", file(pointer), e.toString());
            }
        }
    }

    private void bringUpToDate(RecordPointer pointer, PersistedState persistedState) throws IOException {
        long sequence = pointer.sequence();
        try {
            byte[] bytes = read(pointer, true).with(sequence, persistedState).toBytes();
            replace(file(pointer), bytes);
            renamed = true;
            resized(sequence, bytes.length);
        } catch (DamagedPayloadException | NoSuchFileException e) {
            // The next claim of the batch reports it.
            log.debug("{} could not be brought up to date", file(pointer), e);
        }
    }

    /**
     * Updates documents that are behind. A document takes precedence over the journal, since a person may have changed
     * it, so it must not be out of date.
     */
    private void bringUpToDate() throws IOException {
        for (Behind document : List.copyOf(behind.values())) {
            bringUpToDate(document.pointer(), document.persistedState());
            behind.remove(document.pointer().sequence());
        }
    }

    private void resized(long sequence, int size) {
        Integer before = sizes.put(sequence, size);
        diskUsage.addAndGet(size - (before == null ? 0 : before));
    }

    @Override
    public void removed(RecordPointer pointer) {
        behind.remove(pointer.sequence());
        String name = names.remove(pointer.sequence());
        if (name != null) {
            leftOver.put(pointer.sequence(), name);
        }
    }

    @Override
    public boolean isReclaimable() {
        return leftOver.size() >= (options.sync() == SyncPolicy.NEVER ? 1 : MIN_DELETIONS_WORTH_FORCE);
    }

    @Override
    public void reclaim() {
        deleteLeftOver();
    }

    @Override
    public void journalForced() throws IOException {
        try {
            bringUpToDate();
            if (renamed && options.sync() != SyncPolicy.NEVER) {
                // A document that is behind the journal would take precedence over it.
                disk.forceDirectory(options.directory());
                renamed = false;
            }
            markFailure = null;
        } catch (IOException e) {
            markFailure = e;
            throw e;
        }
        deleteLeftOver();
    }

    @Override
    public @Nullable IOException markFailure() {
        return markFailure;
    }

    @Override
    public boolean awaitsJournal() {
        return true;
    }

    private void deleteLeftOver() {
        if (leftOver.isEmpty()) {
            return;
        }
        leftOver.entrySet().removeIf(entry -> {
            try {
                disk.delete(path(entry.getValue()));
            } catch (IOException e) {
                log.warn("{} could not be deleted: {}; it will be tried again", entry.getValue(), e.toString());
                return false;
            }
            forget(entry.getKey(), entry.getValue());
            return true;
        });
    }

    @Override
    public long[] gone() {
        return leftOver.keySet().stream().mapToLong(Long::longValue).toArray();
    }

    @Override
    public Map<Integer, FileEnd> fileEnds() {
        return Map.of();
    }

    @Override
    public long diskUsage() {
        return diskUsage.get();
    }

    @Override
    public long availableBytes() {
        return 0;
    }

    @Override
    public void close() {
        // Each document is closed once it is written.
    }
}
