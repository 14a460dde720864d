package io.batchpersistence.sample;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.SingleLine;
import io.batchpersistence.sample.LineReader.Line;
import io.batchpersistence.sample.PositionStore.SavedFile;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * One file that is followed through its open channel, whatever becomes of its name.
 *
 * <p>Lines are read into one batch, the batch is persisted under the id {@code <stream>:<offset of its first line>}, and only
 * then the position moves. If the process is killed before the new position is saved, the same lines are read again later.
 * Then the id is refused as a duplicate while the batch is still held, and the batch itself, in its context, says up to where
 * it reaches: reading goes on there. How the lines had been divided into batches need not be remembered. If the batch had
 * been delivered already, its lines are sent again, which is what "at least once" allows.
 *
 * <p>The stream is a random id, new for every file and whenever a file starts anew. So an id never stands for two contents:
 * no batch is taken for one that is already held only because another file once had the same inode and first bytes.
 *
 * <p>For one thread.
 */
final class TailedFile implements AutoCloseable {

    private static final Logger log = SingleLine.logger(TailedFile.class);

    /** How many batches of one file are persisted before the others get their turn and positions are saved. */
    private static final int BATCHES_A_TURN = 16;

    private static final Duration FIRST_BACKOFF = Duration.ofSeconds(1);

    /** The context entry that tells where a batch ends. */
    private static final String END = "end";

    private final ShipperProperties settings;
    private final LineReader reader;
    private final Outbox outbox;
    private final ShipperStats stats;
    private final String collector;
    private final FileChannel channel;
    private final String name;
    private final String identity;

    private String stream;
    private int generation;
    /** Up to here everything is durable in a batch. */
    private Position persisted;
    /** Up to here lines have been read; those in between are in {@link #batch}. */
    private Position read;

    /** Of the content before {@link #read}, when the end was last reached. */
    private Fingerprint fingerprint;

    private final List<LogEntry> batch = new ArrayList<>();
    private long batchBytes;
    private Instant batchBegun = Instant.EPOCH;

    /** The size when the end was last reached, to notice growth without reading. */
    private long sizeAtEnd = -1;

    private Instant grownAt;
    /** When the last line without a time of its own is said to have been written. */
    private Instant lastTaken = Instant.EPOCH;

    private @Nullable Instant goneSince;
    private @Nullable Instant retryAt;
    private Duration backoff = FIRST_BACKOFF;

    /**
     * Goes on where the saved file stopped.
     *
     * @param saved what is known of it
     * @param channel open for reading; closed by {@link #close()}
     * @param collector where its lines go
     * @param now the time
     * @param reader shared by all files
     * @param outbox takes the batches
     * @param stats counts them
     * @param settings sizes and delays
     */
    TailedFile(
            SavedFile saved,
            FileChannel channel,
            String collector,
            Instant now,
            LineReader reader,
            Outbox outbox,
            ShipperStats stats,
            ShipperProperties settings) {
        this.stream = saved.stream();
        this.name = saved.name();
        this.generation = saved.generation();
        this.identity = saved.identity();
        this.persisted = saved.position();
        this.read = saved.position();
        this.fingerprint = saved.fingerprint();
        this.channel = channel;
        this.collector = collector;
        this.grownAt = now;
        this.reader = reader;
        this.outbox = outbox;
        this.stats = stats;
        this.settings = settings;
    }

    String identity() {
        return identity;
    }

    String name() {
        return name;
    }

    /** Among the files that had its name, the lower was there before. */
    int generation() {
        return generation;
    }

    String stream() {
        return stream;
    }

    /** What is to be saved of it. */
    SavedFile saved(Instant now) throws IOException {
        Fingerprint before =
                fingerprint.offset() == persisted.offset() ? fingerprint : Fingerprint.of(channel, persisted.offset());
        return new SavedFile(stream, name, generation, identity, persisted, before, now);
    }

    /** No configured path leads to it any more: it was renamed or removed. */
    void gone(Instant now) {
        if (goneSince == null) {
            goneSince = now;
        }
    }

    /** A configured path leads to it. */
    void present() {
        goneSince = null;
    }

    /** Everything there was has been read and is durable, save a last line without a line end. */
    boolean isCaughtUp() throws IOException {
        return batch.isEmpty() && isAtEnd();
    }

    /** It is gone, and nothing more has come for long enough: it can be closed. */
    boolean isFinished(Instant now) throws IOException {
        return goneSince != null
                && isCaughtUp()
                && read.offset() == sizeAtEnd
                && !now.isBefore(later(goneSince, grownAt).plus(settings.rotatedFileTimeout()));
    }

    boolean isGoneForLong(Instant now) {
        return goneSince != null && !now.isBefore(goneSince.plus(settings.rotatedFileTimeout()));
    }

    private static Instant later(Instant a, Instant b) {
        return a.isAfter(b) ? a : b;
    }

    /**
     * Reads and persists what there is, for a while.
     *
     * @param now the time
     * @return whether there is more to do at once
     * @throws IOException if the file can't be read; to be tried again
     */
    boolean turn(Instant now) throws IOException {
        if (retryAt != null && now.isBefore(retryAt)) {
            return false;
        }
        if (startsAnew()) {
            if (!flush(now)) {
                return false;
            }
            startAnew();
            return true; // the new stream is saved before its first batch is persisted
        }
        reader.open(channel, read);
        for (int batches = 0; batches < BATCHES_A_TURN; batches++) {
            if (!isAtEnd()) {
                fillBatch(now);
            }
            if (isAtEnd() && !isFull() && isRestDue(now)) {
                takeRest(now);
            }
            boolean full = isFull();
            boolean due = !batch.isEmpty() && !now.isBefore(batchBegun.plus(settings.batchDelay()));
            if ((full || due) && !flush(now)) {
                return false;
            }
            if (isAtEnd() && !full) {
                return false;
            }
        }
        return true;
    }

    /** Nothing has been added since all was read, save a last line without a line end. */
    private boolean isAtEnd() throws IOException {
        return sizeAtEnd == channel.size();
    }

    /** Whether what is there now is not a continuation of what was read. */
    private boolean startsAnew() throws IOException {
        if (channel.size() < read.offset()) {
            log.warn(
                    "{} was truncated to {} bytes when {} had been read: it is read from the start",
                    name,
                    channel.size(),
                    read.offset());
            return true;
        }
        if (!isAtEnd() && fingerprint.offset() == read.offset() && !fingerprint.matches(channel)) {
            log.warn("{} was rewritten after {} bytes had been read: it is read from the start", name, read.offset());
            return true;
        }
        return false;
    }

    private void startAnew() {
        stream = newStream();
        generation++;
        persisted = Position.START;
        read = Position.START;
        fingerprint = new Fingerprint(-1, 0, 0);
        sizeAtEnd = -1;
    }

    /** Adds lines until the batch is full or there are no more. */
    private void fillBatch(Instant now) throws IOException {
        long size = channel.size();
        while (!isFull()) {
            Line line = reader.next();
            if (line == null) {
                if (size != sizeAtEnd) {
                    sizeAtEnd = size;
                    grownAt = now;
                }
                fingerprint = Fingerprint.of(channel, read.offset());
                return;
            }
            add(line, now);
        }
    }

    private boolean isRestDue(Instant now) {
        return read.offset() < sizeAtEnd && !now.isBefore(grownAt.plus(settings.partialLineTimeout()));
    }

    /** Whoever writes it seems to have stopped in the middle of the line, or never ends the last one. */
    private void takeRest(Instant now) throws IOException {
        reader.open(channel, read);
        Line line = reader.next();
        if (line == null) {
            line = reader.rest();
        }
        if (line != null) {
            add(line, now);
        }
    }

    private void add(Line line, Instant now) {
        read = line.next();
        if (line.text().isEmpty()) {
            // The end of a line whose parts have been taken already is not an empty line.
            if (line.at().part() == 0) {
                stats.emptyLines.incrementAndGet();
            }
        } else {
            if (batch.isEmpty()) {
                batchBegun = now;
            }
            batch.add(entry(line, now));
            batchBytes += line.next().offset() - line.at().offset();
        }
        if (batch.isEmpty()) {
            persisted = read; // nothing before it is worth keeping
        }
    }

    private LogEntry entry(Line line, Instant now) {
        Instant timestamp = LogLines.timestamp(line.text());
        LogEntry.Builder entry = LogEntry.builder(timestamp == null ? taken(now) : timestamp, line.text())
                .level(LogLines.level(line.text()))
                .label("filename", name)
                .source("file", sourceId(line));
        if (line.isPart()) {
            entry.field("part", line.at().part() + 1);
        }
        return entry.build();
    }

    /** No two lines at the same time: a collector sorts by it, and Loki takes two lines with the same text for one. */
    private Instant taken(Instant now) {
        lastTaken = now.isAfter(lastTaken) ? now : lastTaken.plusNanos(1);
        return lastTaken;
    }

    /** The same for the same line after every restart. */
    private String sourceId(Line line) {
        return name
                + (generation > 1 ? "#" + generation : "")
                + ":"
                + line.at().line()
                + (line.at().part() > 0 ? "." + (line.at().part() + 1) : "");
    }

    private boolean isFull() {
        return batch.size() >= settings.batchSize()
                || batchBytes >= settings.batchBytes().toBytes();
    }

    /**
     * Persists the batch, if there is anything in it.
     *
     * @return whether all that was read is durable now
     */
    private boolean flush(Instant now) throws IOException {
        if (batch.isEmpty()) {
            return true;
        }
        String id = stream + ":" + persisted.offset();
        try {
            outbox.ship(id, List.copyOf(batch), collector, Map.of("file", name, END, format(read)));
        } catch (DuplicateBatchException e) {
            return skipHeld(id);
        } catch (RuntimeException e) {
            refused(e, now);
            return false;
        }
        stats.batches.incrementAndGet();
        stats.entries.addAndGet(batch.size());
        if (retryAt != null) {
            log.info("lines of {} are taken again", name);
            retryAt = null;
            backoff = FIRST_BACKOFF;
        }
        moveTo(read);
        return true;
    }

    /** The batch had been persisted before, but its end not saved: goes on where it ends. */
    private boolean skipHeld(String id) throws IOException {
        Optional<PersistedBatch> held = outbox.find(id);
        if (held.isEmpty()) {
            return false; // delivered a moment ago; the next turn sends it again rather than trusting that
        }
        Position end = parse(held.get().context().get(END));
        if (end == null || end.offset() <= persisted.offset() || end.offset() > channel.size()) {
            log.warn("the batch {} is not one of {}: its lines get another id", id, name);
            stream = newStream();
            return false;
        }
        moveTo(end);
        reader.open(channel, end);
        sizeAtEnd = -1;
        return true;
    }

    private void moveTo(Position position) {
        persisted = position;
        read = position;
        batch.clear();
        batchBytes = 0;
    }

    private void refused(RuntimeException e, Instant now) {
        stats.refusals.incrementAndGet();
        if (retryAt == null) {
            log.warn(
                    "lines of {} were not taken ({}); they stay in the file and are tried again",
                    name,
                    e instanceof BatchPersistenceException ? e.getMessage() : e.toString());
        }
        waitBeforeRetry(now);
    }

    /** Lets some time pass, more each time, before the next turn does anything. */
    void waitBeforeRetry(Instant now) {
        retryAt = now.plus(backoff);
        Duration doubled = backoff.multipliedBy(2);
        backoff = doubled.compareTo(settings.retryBackoffMax()) < 0 ? doubled : settings.retryBackoffMax();
    }

    private static String format(Position position) {
        return position.offset() + "," + position.line() + "," + position.part();
    }

    private static @Nullable Position parse(@Nullable String text) {
        try {
            List<String> numbers = text == null ? List.of() : List.of(text.split(",", -1));
            return numbers.size() == 3
                    ? new Position(
                            Long.parseLong(numbers.get(0)),
                            Long.parseLong(numbers.get(1)),
                            Integer.parseInt(numbers.get(2)))
                    : null;
        } catch (IllegalArgumentException e) {
            return null;
        }
    }

    /** An id for a content that was never seen before. */
    static String newStream() {
        return UUID.randomUUID().toString();
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}
