package io.batchpersistence.sample;

import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.sample.PositionStore.SavedFile;
import io.batchpersistence.sample.ShipperProperties.Source;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/**
 * Follows the configured files like {@code tail -F}, from where it stopped the last time.
 *
 * <p>A file is recognized by its identity (device and inode), not by its name. If another file appears under a name,
 * the previous one is first read to its end through its open channel; this also works if it was renamed within its
 * directory while the application was down. A new file is read from its start.
 *
 * <p>For one thread.
 */
final class FileTailer implements AutoCloseable {

    private static final Logger log = LogSanitizer.logger(FileTailer.class);

    /** How long the position of a file that no longer exists is kept, in case it comes back. */
    private static final Duration MEMORY = Duration.ofDays(7);

    private record Followed(Source source, FileGlob glob, String collector) {}

    private record Found(Path path, Followed by) {}

    private final ShipperProperties settings;
    private final List<Followed> followed;
    private final PositionStore store;
    private final Outbox outbox;
    private final ShipperStats stats;
    private final Clock clock;
    private final LineReader reader;

    /** The content of the positions file, by stream. */
    private final Map<String, SavedFile> saved = new LinkedHashMap<>();

    private final List<TailedFile> files = new ArrayList<>();

    private final Set<String> complainedAbout = new HashSet<>();
    /** Whether {@link #saved} has changes that are not on disk. */
    private boolean unsaved;

    private boolean saveFailed;
    private @Nullable Instant nextScan;

    /**
     * Creates a tailer and reads the positions.
     *
     * @throws IOException if the positions can't be read
     */
    FileTailer(ShipperProperties settings, Outbox outbox, ShipperStats stats, Clock clock) throws IOException {
        this.settings = settings;
        this.followed = settings.files().stream()
                .map(source -> new Followed(
                        source,
                        new FileGlob(source.path()),
                        source.collector() == null ? settings.collector() : source.collector()))
                .toList();
        this.store = new PositionStore(settings.stateDirectory());
        this.outbox = outbox;
        this.stats = stats;
        this.clock = clock;
        this.reader = new LineReader((int) settings.maxLineLength().toBytes());
        for (SavedFile file : store.load()) {
            saved.put(file.stream(), file);
        }
    }

    /**
     * Scans for files if it is time to, and reads from every file in turn.
     *
     * @return whether there is more to do immediately
     */
    boolean tick() {
        Instant now = clock.instant();
        if (nextScan == null || !now.isBefore(nextScan)) {
            scan(now, nextScan == null);
            nextScan = now.plus(settings.scanInterval());
        }
        boolean more = false;
        for (Iterator<TailedFile> all = files.iterator(); all.hasNext(); ) {
            TailedFile file = all.next();
            try {
                if (hasToWait(file)) {
                    continue;
                }
                more |= file.turn(now);
                complainedAbout.remove(file.stream());
                if (file.isFinished(now)) {
                    log.info("{} was rotated away or removed, and has been read to its end", file.name());
                    remember(file, now);
                    file.close();
                    all.remove();
                }
            } catch (IOException e) {
                file.waitBeforeRetry(now);
                if (file.isGoneForLong(now)) {
                    log.error("what is left of {}, which is no longer there, can't be read: given up", file.name(), e);
                    closeQuietly(file);
                    all.remove();
                    continue;
                }
                complain(file.stream(), "{} can't be read now and is tried again: {}", file.name(), e);
            }
        }
        save(now);
        return more;
    }

    private void scan(Instant now, boolean first) {
        Map<String, Found> found = find();
        files.forEach(file -> {
            if (found.containsKey(file.identity())) {
                file.present();
            } else {
                file.gone(now);
            }
        });
        if (first) {
            openRotatedAway(found.keySet(), now);
        }
        Set<String> open = new HashSet<>();
        files.forEach(file -> open.add(file.identity()));
        Set<String> known = new HashSet<>();
        saved.values().forEach(file -> known.add(file.identity()));
        // Known files first: one of them may have had a name that another file has now.
        List<Map.Entry<String, Found>> ordered = new ArrayList<>(found.entrySet());
        ordered.sort(Comparator.comparing(entry -> !known.contains(entry.getKey())));
        ordered.forEach(entry -> {
            String identity = entry.getKey();
            Found file = entry.getValue();
            try {
                if (!open.contains(identity)) {
                    open(identity, file.path(), file.by().collector(), now);
                    complainedAbout.remove(identity);
                }
            } catch (NoSuchFileException e) {
                // The file was removed between listing and opening. The next scan sees the new state.
            } catch (IOException e) {
                complain(
                        identity,
                        "{} can't be opened and is tried again: {}",
                        file.path().toString(),
                        e);
            }
        });
        save(now);
    }

    private Map<String, Found> find() {
        Map<String, Found> found = new LinkedHashMap<>();
        for (Followed by : followed) {
            try {
                for (Path path : by.glob().find()) {
                    String identity = identity(path);
                    if (identity != null) {
                        found.putIfAbsent(identity, new Found(path, by));
                    }
                }
                complainedAbout.remove(by.source().path());
            } catch (IOException e) {
                complain(
                        by.source().path(),
                        "{} can't be looked for: {}",
                        by.source().path(),
                        e);
            }
        }
        return found;
    }

    /** The identity of a file; {@code null} if it no longer exists. */
    private static @Nullable String identity(Path path) throws IOException {
        try {
            Object key = Files.readAttributes(path, BasicFileAttributes.class).fileKey();
            return key == null ? path.toString() : key.toString();
        } catch (NoSuchFileException e) {
            return null;
        }
    }

    /** Whether an earlier file of the same name has not been read to its end yet. */
    private boolean hasToWait(TailedFile file) throws IOException {
        for (TailedFile other : files) {
            if (other.name().equals(file.name()) && other.generation() < file.generation() && !other.isCaughtUp()) {
                return true;
            }
        }
        return false;
    }

    private void open(String identity, Path path, String collector, Instant now) throws IOException {
        FileChannel channel = FileChannel.open(path, StandardOpenOption.READ);
        try {
            if (!identity.equals(identity(path))) {
                // Rotated at this very moment; the next scan sees the new state.
                channel.close();
                return;
            }
            SavedFile known = known(identity, path, channel);
            if (known == null) {
                known = begin(identity, path.toString(), now);
                log.info("{} is followed from its start", path);
            } else {
                log.info(
                        "{} is followed from byte {} on", path, known.position().offset());
            }
            saved.put(known.stream(), known);
            unsaved = true;
            files.add(new TailedFile(known, channel, collector, now, reader, outbox, stats, settings));
        } catch (IOException | RuntimeException e) {
            channel.close();
            throw e;
        }
    }

    private SavedFile begin(String identity, String name, Instant now) {
        int generation = 1
                + saved.values().stream()
                        .filter(file -> file.name().equals(name))
                        .mapToInt(SavedFile::generation)
                        .max()
                        .orElse(0);
        return new SavedFile(
                TailedFile.newStream(), name, generation, identity, Position.START, new Fingerprint(0, 0, 0), now);
    }

    /**
     * Finds the saved state by identity, or by name and content if identities have changed, as device numbers may after
     * a reboot.
     */
    private @Nullable SavedFile known(String identity, Path path, FileChannel channel) throws IOException {
        List<SavedFile> candidates = Stream.concat(
                        saved.values().stream().filter(file -> file.identity().equals(identity)),
                        saved.values().stream()
                                .filter(file -> file.name().equals(path.toString())
                                        && file.position().offset() > 0))
                .filter(file -> files.stream().noneMatch(open -> open.stream().equals(file.stream())))
                .toList();
        for (SavedFile candidate : candidates) {
            boolean fits = candidate.position().offset() == 0
                    ? candidate.name().equals(path.toString())
                    : candidate.fingerprint().matches(channel);
            if (fits) {
                return new SavedFile(
                        candidate.stream(),
                        candidate.name(),
                        candidate.generation(),
                        identity,
                        candidate.position(),
                        candidate.fingerprint(),
                        candidate.lastSeen());
            }
        }
        return null;
    }

    /**
     * Opens files that were renamed, while the application was down, to names outside the configuration, and that have
     * unread lines.
     */
    private void openRotatedAway(Collection<String> found, Instant now) {
        List<SavedFile> missing = saved.values().stream()
                .filter(file -> !found.contains(file.identity()))
                .sorted(Comparator.comparing(SavedFile::generation))
                .toList();
        for (SavedFile file : missing) {
            Path name = Path.of(file.name());
            Followed by = followed.stream()
                    .filter(each -> each.glob().matches(name))
                    .findFirst()
                    .orElse(null);
            Path directory = name.getParent();
            if (by == null || directory == null) {
                continue;
            }
            try (DirectoryStream<Path> siblings = Files.newDirectoryStream(directory, Files::isRegularFile)) {
                for (Path sibling : siblings) {
                    if (!FileGlob.isCompressed(sibling) && file.identity().equals(identity(sibling))) {
                        FileChannel channel = FileChannel.open(sibling, StandardOpenOption.READ);
                        if (file.fingerprint().matches(channel)
                                || file.position().offset() == 0) {
                            if (channel.size() > file.position().offset()) {
                                log.info("{} is now {}: the rest of it is read first", name, sibling.getFileName());
                            }
                            TailedFile rest =
                                    new TailedFile(file, channel, by.collector(), now, reader, outbox, stats, settings);
                            rest.gone(now);
                            files.add(rest);
                        } else {
                            channel.close();
                        }
                    }
                }
            } catch (NoSuchFileException | NotDirectoryException e) {
                // The file or its directory no longer exists.
            } catch (IOException e) {
                log.warn("what was {} can't be looked for in its directory: {}", name, e.toString());
            }
        }
    }

    private void remember(TailedFile file, Instant now) throws IOException {
        SavedFile state = file.saved(now);
        saved.put(state.stream(), state);
        unsaved = true;
    }

    /**
     * Saves the positions if one has changed. If that fails, lines are delivered twice after a restart, but none is
     * lost.
     */
    private void save(Instant now) {
        try {
            Map<String, SavedFile> next = new LinkedHashMap<>(saved);
            boolean changed = unsaved;
            for (TailedFile file : files) {
                SavedFile before = saved.get(file.stream());
                SavedFile state = file.saved(now);
                changed |= before == null || !before.position().equals(state.position());
                next.values()
                        .removeIf(old -> old.identity().equals(state.identity())
                                && old.name().equals(state.name())
                                && old.generation() < state.generation());
                next.put(state.stream(), state);
            }
            if (changed) {
                next.values().removeIf(file -> file.lastSeen().isBefore(now.minus(MEMORY)));
                store.save(List.copyOf(next.values()));
                saved.clear();
                saved.putAll(next);
                unsaved = false;
                if (saveFailed) {
                    log.info("positions are saved again");
                    saveFailed = false;
                }
            }
        } catch (IOException e) {
            if (!saveFailed) {
                log.error(
                        "positions can't be saved in {}, so lines will be delivered twice after a restart: {}",
                        settings.stateDirectory(),
                        e.toString());
                saveFailed = true;
            }
        }
    }

    private void complain(String about, String message, String what, IOException e) {
        if (complainedAbout.add(about)) {
            log.warn(message, what, e.toString());
        }
    }

    /** Closes the files. Lines that were read but not persisted are read again after the next start. */
    @Override
    public void close() {
        save(clock.instant());
        files.forEach(FileTailer::closeQuietly);
        files.clear();
    }

    private static void closeQuietly(TailedFile file) {
        try {
            file.close();
        } catch (IOException e) {
            log.debug("closing {}", file.name(), e);
        }
    }
}
