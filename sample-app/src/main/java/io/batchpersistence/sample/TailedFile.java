package io.batchpersistence.sample;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.internal.log.LogSanitizer;
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
 * One file that is followed through its open channel, whatever happens to its name.
 *
 * <p>Lines are read into one batch, the batch is persisted under the id {@code <stream>:<offset of its first line>},
 * and only then does the position advance. If the process is killed before the new position is saved, the same lines
 * are read again later. While the batch is still held, its id is then refused as a duplicate, and the context of the
 * held batch contains the position of its end: reading continues there. How the lines were divided into batches need
 * not be stored. If the batch had been delivered already, its lines are sent again, which "at least once" allows.
 *
 * <p>The stream is a random id, new for every file and after every truncation or rewrite. So an id never stands for two
 * contents: a batch is not mistaken for one that is already held because another file once had the same inode and first
 * bytes.
 *
 * <p>Not thread-safe.
 */
final class TailedFile implements AutoCloseable {

    private static final Logger log = LogSanitizer.logger(TailedFile.class);

    /** The number of batches of one file that are persisted before the other files are read and positions are saved. */
    private static final int BATCHES_A_TURN = 16;

    private static final Duration FIRST_BACKOFF = Duration.ofSeconds(1);

    /** The context entry that contains the position of a batch's end. */
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
    /** Everything before this position is durable in a batch. */
    private Position persisted;
    /** Lines up to this position have been read; those after {@link #persisted} are in {@link #batch}. */
    private Position read;

    /** The fingerprint of the content before {@link #read}, when the end was last reached. */
    private Fingerprint fingerprint;

    private final List<LogEntry> batch = new ArrayList<>();
    private long batchBytes;
    private Instant batchBegun = Instant.EPOCH;

    /** The size when the end was last reached, to notice growth without reading. */
    private long sizeAtEnd = -1;

    private Instant grownAt;
    /** The time that was assigned to the last line without a time of its own. */
    private Instant lastTaken = Instant.EPOCH;

    private @Nullable Instant goneSince;
    private @Nullable Instant retryAt;
    private Duration backoff = FIRST_BACKOFF;

    /** Continues where the saved file stopped. The channel is open for reading; {@link #close()} closes it. */
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

    /** The order of the files that had this name: a lower one is older. */
    int generation() {
        return generation;
    }

    String stream() {
        return stream;
    }

    /** The state to save. */
    SavedFile saved(Instant now) throws IOException {
        Fingerprint before =
                fingerprint.offset() == persisted.offset() ? fingerprint : Fingerprint.of(channel, persisted.offset());
        return new SavedFile(stream, name, generation, identity, persisted, before, now);
    }

    /** No configured path leads to this file any more: it was renamed or removed. */
    void gone(Instant now) {
        if (goneSince == null) {
            goneSince = now;
        }
    }

    /** A configured path leads to this file. */
    void present() {
        goneSince = null;
    }

    /** Whether everything has been read and is durable, except a last line without a line end. */
    boolean isCaughtUp() throws IOException {
        return batch.isEmpty() && isAtEnd();
    }

    /** Whether the file can be closed: it is gone, and has not grown for the configured time. */
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
     * Reads and persists the available lines, up to a number of batches.
     *
     * @param now the current time
     * @return whether there is more to do immediately
     * @throws IOException if the file can't be read; to be retried
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
            // The new stream must be saved before its first batch is persisted.
            return true;
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

    /** Whether nothing was added since everything was read, except a last line without a line end. */
    private boolean isAtEnd() throws IOException {
        return sizeAtEnd == channel.size();
    }

    /** Whether the current content does not continue what was read. */
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

    /**
     * Adds a last line without a line end: its writer seems to have stopped within the line, or never ends its last
     * one.
     */
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
            // The end of a line whose parts have already been added is not an empty line.
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
        // Only empty lines before this position: there is nothing to persist.
        if (batch.isEmpty()) {
            persisted = read;
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

    /**
     * Never returns the same time twice: collectors sort by it, and Loki drops a line with the same text and time as
     * another.
     */
    private Instant taken(Instant now) {
        lastTaken = now.isAfter(lastTaken) ? now : lastTaken.plusNanos(1);
        return lastTaken;
    }

    /** The id of a line, which is the same after every restart. */
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
     * Persists the batch, if it contains lines.
     *
     * @return whether all lines that were read are durable now
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

    /** The batch had been persisted before, but its end not saved: continues at the end of the held batch. */
    private boolean skipHeld(String id) throws IOException {
        Optional<PersistedBatch> held = outbox.find(id);
        if (held.isEmpty()) {
            // Delivered a moment ago; the next turn sends it again, because that is safer than assuming so.
            return false;
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

    /** Delays the next turn, longer after each refusal. */
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

    /** Returns an id for new content. */
    static String newStream() {
        return UUID.randomUUID().toString();
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}
