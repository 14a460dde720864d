package io.batchpersistence.benchmarks;

import io.batchpersistence.benchmarks.Candidate.Kind;
import io.batchpersistence.benchmarks.Candidate.Limit;
import io.batchpersistence.benchmarks.Scenarios.Load;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * The command. It plans the measurements, runs each in its own process, and writes the report. Repeats are interleaved:
 * first all stores once, then all of them again, so that a machine that becomes slower affects all stores equally.
 */
@Command(
        name = "benchmarks/run",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        description = "Measures the stores of this project and their peers, side by side.")
public final class Benchmarks implements Callable<Integer> {

    @Option(names = "--full", description = "everything (hours), not the representative part (minutes)")
    private boolean full;

    @Option(
            names = "--scenarios",
            split = ",",
            description = "some of: persist,async,reopen,drain,recover,scale,steady,growth")
    private List<String> scenarios = List.of();

    @Option(
            names = "--stores",
            split = ",",
            description = "some of: segment,segment-spring (persist only),json-files,plain-append,json-per-batch,"
                    + "otel-disk-buffering,rocksdb,h2-mvstore,artemis-journal,chronicle-queue,tape,"
                    + "jdbc,plain-table,db-scheduler")
    private List<String> stores = List.of();

    @Option(
            names = "--threads",
            split = ",",
            description = "callers at the same time (persist); the first: writers (steady)")
    private List<Integer> threads = List.of();

    @Option(names = "--workers", split = ",", description = "threads that take the backlog (recover); default 1,8")
    private List<Integer> workers = List.of();

    @Option(
            names = "--entries",
            split = ",",
            description =
                    "entries of a batch (persist); default 1,100, full 1,10,100,1000; the first: of growth, default 100")
    private List<Integer> entries = List.of();

    @Option(
            names = "--loads",
            split = ",",
            description =
                    "instead of --threads, --entries and --sync (persist): callers x entries, as 1x1,8x100, without sync "
                            + "2x100:never")
    private List<String> loads = List.of();

    @Option(
            names = "--labels",
            split = ",",
            description =
                    "few,many (persist): all lines of a source have the same two labels, or each line has four that vary; "
                            + "default many, full both")
    private List<String> labels = List.of();

    @Option(names = "--sync", split = ",", description = "always,never (persist, async)")
    private List<String> sync = List.of("always", "never");

    @Option(
            names = "--pending",
            split = ",",
            description = "batches of the backlog (reopen, drain, recover, scale, growth)")
    private List<Integer> pending = List.of();

    @Option(names = "--failed", description = "scale: each batch has failed once, as in an outage")
    private boolean failed;

    @Option(names = "--repeats", description = "of each measurement; default 1, full 3")
    private int repeats;

    @Option(names = "--seconds", description = "measured time of a load of persist, and of async; default 2, full 3")
    private double seconds;

    @Option(
            names = "--warmup",
            description =
                    "before, until code is compiled; with persist the loads of a process share it; default 8, full 16")
    private double warmup = -1;

    @Option(
            names = "--megabytes",
            description = "of raw log for the size on disk, if that takes no longer than 20 s; default 16, full 64")
    private double megabytes;

    @Option(
            names = "--before",
            paramLabel = "<DIRECTORY>",
            description =
                    "another checkout of this project: its stores are measured in the same run, in processes of their own "
                            + "with this build's benchmarks")
    private @Nullable Path before;

    @Option(names = "--duration", description = "seconds of steady; default 20, full 300")
    private double duration;

    @Option(names = "--window", description = "seconds of a window of steady; default ${DEFAULT-VALUE}")
    private double window = 5;

    @Option(names = "--rate", description = "batches a second of steady; default: 60 %% of what the store can do")
    private double rate;

    @Option(
            names = "--samples",
            description = "batches of which scale and growth take the latency; default ${DEFAULT-VALUE}")
    private int samples = 2_000;

    @Option(names = "--corpus", description = "directory with *.log files; default: generated lines")
    private @Nullable Path corpus;

    @Option(names = "--out", description = "where the report goes; default ${DEFAULT-VALUE}")
    private Path out = Path.of("benchmarks/target/results");

    @Option(
            names = "--dir",
            description =
                    "where the stores' files go, and with them which disk is measured; default " + "${DEFAULT-VALUE}")
    private Path directory = Path.of("benchmarks/target/stores");

    @Option(
            names = "--postgresql",
            paramLabel = "<URL>",
            description =
                    "JDBC URL of a PostgreSQL for jdbc, plain-table and db-scheduler, which make schemas benchmark_… in it and "
                            + "drop them again; it is given to the processes as an argument, so let no password in it be a secret")
    private @Nullable String postgresql;

    @Option(names = "--timeout", description = "seconds after which a process has failed; default ${DEFAULT-VALUE}")
    private long timeout = 1800;

    @Option(names = "--in-process", hidden = true, description = "no process of its own for each, for tests")
    private boolean inProcess;

    private static final int BACKLOG = 10_000;
    private static final int BACKLOG_ENTRIES = 100;
    private static final List<Integer> PEERS_BACKLOGS = List.of(10_000, 20_000, 100_000);
    private static final int OWN_BACKLOG = 1_000_000;
    private static final String OWN_ONLY =
            "not measured: a million batches of a peer would need tens of gigabytes of disk, and some of heap";

    private final List<Measurement> measurements = new ArrayList<>();
    private Step.@Nullable Runner runner;
    private long began;

    /** The command line. */
    public static void main(String[] args) {
        System.setProperty("java.awt.headless", "true");
        System.exit(new CommandLine(new Benchmarks()).execute(args));
    }

    @Override
    public Integer call() throws IOException {
        began = System.nanoTime();
        Files.createDirectories(out);
        Files.createDirectories(directory);
        runner = inProcess ? Scenarios::run : new ChildJvm(out.resolve("children"), before);
        if (before != null) {
            // At once, not as a row after minutes.
            ChildJvm.classPath(System.getProperty("java.class.path"), before);
        }
        List<String> known = List.of("persist", "async", "reopen", "drain", "recover", "scale", "steady", "growth");
        for (String scenario : scenarios) {
            if (!known.contains(scenario)) {
                throw new IllegalArgumentException("there is no scenario '" + scenario + "'; there are " + known);
            }
        }
        Set<String> chosen = Set.copyOf(
                !scenarios.isEmpty()
                        ? scenarios
                        : full ? known : List.of("persist", "reopen", "drain", "scale", "steady"));
        if (chosen.contains("persist")) {
            persist();
        }
        if (chosen.contains("async")) {
            async();
        }
        if (chosen.contains("reopen") || chosen.contains("drain")) {
            backlog(chosen.contains("reopen"), chosen.contains("drain"));
        }
        if (chosen.contains("recover")) {
            recover();
        }
        if (chosen.contains("scale")) {
            scale();
        }
        if (chosen.contains("growth")) {
            growth();
        }
        if (chosen.contains("steady")) {
            steady();
        }
        new Report(measurements, machine(), description()).write(out);
        System.out.printf(Locale.ROOT, "%ntook %s: %s%n", tookUntilNow(), out.resolve("results.md"));
        return 0;
    }

    private String tookUntilNow() {
        Duration took = Duration.ofNanos(System.nanoTime() - began);
        return took.toMinutes() + " min " + took.toSecondsPart() + " s";
    }

    private Map<String, String> machine() throws IOException {
        Map<String, String> machine = Machine.describe(directory);
        if (postgresql != null) {
            String server;
            try {
                server = DatabasePlace.describe(postgresql);
            } catch (SQLException e) {
                server = "not reached: " + e.getMessage();
            }
            machine.put("database", server);
        }
        return machine;
    }

    private String description() {
        return String.format(
                Locale.ROOT,
                "%s, %s; %d repeat(s), interleaved; persist and async: %.3g s, after %.3g s of warm-up for a process, -Xmx%s; "
                        + "log lines: %s",
                full ? "full run" : "short run",
                tookUntilNow(),
                repeats(),
                seconds(),
                warmup(),
                HEAP,
                corpus == null ? "generated" : corpus);
    }

    private int repeats() {
        return repeats > 0 ? repeats : full ? 3 : 1;
    }

    private double seconds() {
        return seconds > 0 ? seconds : full ? 3 : 2;
    }

    private double warmup() {
        return warmup >= 0 ? warmup : full ? 16 : 8;
    }

    /** The stores given on the command line, or else the default ones; each of this project's before its older self. */
    private List<Kind> stores(List<Kind> usually) {
        List<Kind> chosen = stores.isEmpty()
                ? usually
                : stores.stream().map(Candidates::named).toList();
        return chosen.stream()
                .filter(kind -> usually.contains(SpringStore.KIND) || !kind.equals(SpringStore.KIND))
                .flatMap(kind -> before != null && kind.own() ? Stream.of(kind, kind.before()) : Stream.of(kind))
                .distinct()
                .toList();
    }

    /** Every other repeat in the opposite order, so that no store always follows the same one. */
    private static <T> List<T> inTurn(List<T> some, int repeat) {
        List<T> turned = new ArrayList<>(some);
        if (repeat % 2 == 1) {
            Collections.reverse(turned);
        }
        return turned;
    }

    private static <T> List<T> or(List<T> asked, List<T> usually) {
        return asked.isEmpty() ? usually : asked;
    }

    // ---- the scenarios --------------------------------------------------------------------------

    private static final String MANY_LABELS = "many labels";
    private static final String HEAP = "2g";
    private static final String BACKLOG_HEAP = "4g";
    private static final String SCALE_HEAP = "256m";

    private void persist() throws IOException {
        List<Load> all = loads();
        List<String> labelsOfLines = or(labels, full ? List.of("few", "many") : List.of("many"));
        for (String l : labelsOfLines) {
            for (int e : all.stream().map(Load::entries).distinct().toList()) {
                sizes(e, l);
            }
        }
        for (int repeat = 0; repeat < repeats(); repeat++) {
            for (String l : labelsOfLines) {
                for (Kind kind : inTurn(stores(Candidates.PERSISTING), repeat)) {
                    persist(kind, inTurn(all, repeat), l);
                }
            }
        }
    }

    private List<Load> loads() {
        if (!loads.isEmpty()) {
            return loads.stream().map(Load::of).toList();
        }
        List<Load> product = new ArrayList<>();
        for (String s : sync) {
            for (int e : or(entries, full ? List.of(1, 10, 100, 1000) : List.of(1, BACKLOG_ENTRIES))) {
                for (int t : or(threads, full ? List.of(1, 8, 32) : List.of(1, 8))) {
                    product.add(new Load(t, e, s.equals("always")));
                }
            }
        }
        return product;
    }

    /** Once: repeats differ by next to nothing. */
    private void sizes(int entryCount, String labelsOfLines) throws IOException {
        for (Kind kind : stores(Candidates.PERSISTING)) {
            Step step = step("size", kind, HEAP)
                    .with("entries", entryCount)
                    .with(MANY_LABELS, labelsOfLines.equals("many"))
                    .with("megabytes", megabytes > 0 ? megabytes : full ? 64 : 16);
            measure("size", kind, configuration("entries", entryCount, "labels", labelsOfLines), null, step);
        }
    }

    /** Measures all loads that a store can take, in one process. */
    private void persist(Kind kind, List<Load> all, String labelsOfLines) throws IOException {
        List<Load> possible =
                all.stream().filter(load -> impossible(kind, load) == null).toList();
        Outcome outcome = new Outcome(Map.of(), null);
        if (!possible.isEmpty()) {
            Step step = step("persist", kind, HEAP)
                    .with("loads", possible.stream().map(Load::toString).collect(Collectors.joining(",")))
                    .with(
                            "threads",
                            possible.stream().mapToInt(Load::callers).max().orElseThrow())
                    .with(MANY_LABELS, labelsOfLines.equals("many"))
                    .with("seconds", seconds())
                    .with("warmup", warmup());
            outcome = attempt(step, true);
            Scenarios.delete(step.directory());
        }
        for (Load load : all) {
            String impossible = impossible(kind, load);
            Map<String, String> configuration = configuration(
                    "threads",
                    load.callers(),
                    "entries",
                    load.entries(),
                    "labels",
                    labelsOfLines,
                    "sync",
                    load.sync() ? "always" : "never");
            record(
                    "persist",
                    kind,
                    configuration,
                    impossible != null
                            ? new Outcome(Map.of(), impossible)
                            : new Outcome(load.valuesIn(outcome.values()), outcome.failure()));
        }
    }

    private static @Nullable String impossible(Kind kind, Load load) {
        return kind.limits().get(load.sync() ? Limit.NEVER_SYNCS : Limit.ALWAYS_SYNCS);
    }

    private void async() throws IOException {
        List<Kind> own = List.of(OwnStore.SEGMENT, OwnStore.JSON_FILES, OwnStore.JDBC);
        for (String s : sync) {
            for (int repeat = 0; repeat < repeats(); repeat++) {
                for (Kind kind : own.stream().filter(stores(own)::contains).toList()) {
                    for (String mode : List.of("waiting", "pipelined")) {
                        Step step = step("async", kind, HEAP)
                                .with("entries", BACKLOG_ENTRIES)
                                .with("sync", s.equals("always"))
                                .with("mode", mode)
                                .with("seconds", seconds())
                                .with("warmup", warmup());
                        measure("async", kind, configuration("sync", s, "mode", mode), null, step);
                    }
                }
            }
        }
    }

    private void backlog(boolean reopen, boolean drain) throws IOException {
        List<Integer> sizes = new ArrayList<>(PEERS_BACKLOGS);
        sizes.add(OWN_BACKLOG);
        for (int n : or(pending, full ? sizes : List.of(BACKLOG))) {
            for (int repeat = 0; repeat < repeats(); repeat++) {
                for (Kind kind : stores(Candidates.IN_FILES)) {
                    Map<String, String> configuration = configuration("pending", n, "heap", BACKLOG_HEAP);
                    String tooMany = tooMany(n, kind);
                    Step step = step("fill", kind, BACKLOG_HEAP)
                            .with("entries", BACKLOG_ENTRIES)
                            .with("pending", n);
                    String notFilled =
                            tooMany != null ? tooMany : attempt(step, true).failure();
                    if (reopen) {
                        String limit = kind.limits().get(Limit.PENDING_UNKNOWN);
                        measureInPlace("reopen", kind, configuration, notFilled != null ? notFilled : limit, step);
                    }
                    if (drain) {
                        measureInPlace("drain", kind, configuration, notFilled, step);
                    }
                    Scenarios.delete(directory.resolve(kind.name()));
                }
            }
        }
    }

    private static @Nullable String tooMany(int batches, Kind kind) {
        boolean segment = kind.equals(OwnStore.SEGMENT) || kind.equals(OwnStore.SEGMENT.before());
        return batches >= OWN_BACKLOG && !segment ? OWN_ONLY : null;
    }

    private void recover() throws IOException {
        List<Kind> kinds = Candidates.SHARED.stream()
                .filter(stores(Candidates.SHARED)::contains)
                .toList();
        for (int n : or(pending, List.of(BACKLOG))) {
            for (int w : or(workers, List.of(1, 8))) {
                for (int repeat = 0; repeat < repeats(); repeat++) {
                    for (Kind kind : kinds) {
                        Step step = step("fill", kind, HEAP)
                                .with("entries", BACKLOG_ENTRIES)
                                .with("pending", n)
                                .with("workers", w);
                        String notFilled = attempt(step, true).failure();
                        measureInPlace("recover", kind, configuration("pending", n, "workers", w), notFilled, step);
                        Scenarios.delete(directory.resolve(kind.name()));
                    }
                }
            }
        }
    }

    private void scale() throws IOException {
        for (int n : or(pending, List.of(full ? OWN_BACKLOG : OWN_BACKLOG / 10))) {
            for (int repeat = 0; repeat < repeats(); repeat++) {
                for (boolean failedOnce : failed || full ? List.of(false, true) : List.of(false)) {
                    Kind kind = OwnStore.SEGMENT;
                    Map<String, String> configuration =
                            configuration("pending", n, "failed once", failedOnce, "heap", SCALE_HEAP);
                    Step fill = step("fill", kind, BACKLOG_HEAP)
                            .with("entries", BACKLOG_ENTRIES)
                            .with("pending", n)
                            .with("failed", failedOnce);
                    String notFilled = attempt(fill, true).failure();
                    Step step = step("scale", kind, SCALE_HEAP)
                            .with("entries", BACKLOG_ENTRIES)
                            .with("pending", n)
                            .with("samples", samples);
                    measureInPlace("scale", kind, configuration, notFilled, step);
                    Scenarios.delete(directory.resolve(kind.name()));
                }
            }
        }
    }

    private void growth() throws IOException {
        List<Integer> sizes = full ? List.of(1_000, 10_000, 100_000, OWN_BACKLOG) : List.of(1_000, 10_000);
        int e = entries.isEmpty() ? BACKLOG_ENTRIES : entries.get(0);
        for (int n : or(pending, sizes)) {
            for (int repeat = 0; repeat < repeats(); repeat++) {
                for (Kind kind : stores(Candidates.IN_FILES)) {
                    String impossible =
                            kind.has(Limit.NEVER_SYNCS) ? kind.limits().get(Limit.NEVER_SYNCS) : tooMany(n, kind);
                    Step fill =
                            step("fill", kind, BACKLOG_HEAP).with("entries", e).with("pending", n);
                    String notFilled = impossible != null
                            ? impossible
                            : attempt(fill, true).failure();
                    Step step = step("growth", kind, BACKLOG_HEAP)
                            .with("entries", e)
                            .with("pending", n)
                            .with("samples", samples);
                    measureInPlace(
                            "growth",
                            kind,
                            configuration("pending", n, "entries", e, "heap", BACKLOG_HEAP),
                            notFilled,
                            step);
                    Scenarios.delete(directory.resolve(kind.name()));
                }
            }
        }
    }

    private void steady() throws IOException {
        int writers = threads.isEmpty() ? 8 : threads.get(0);
        double length = duration > 0 ? duration : full ? 300 : 20;
        List<Kind> usually = full
                ? List.of(OwnStore.SEGMENT, RocksDbStore.KIND, MvStoreStore.KIND, JsonFilePerBatch.KIND)
                : List.of(OwnStore.SEGMENT, RocksDbStore.KIND);
        for (Kind kind : stores(usually)) {
            // Only once: the windows of a run of several minutes are its repeats.
            Step step = step("steady", kind, HEAP)
                    .with("threads", writers)
                    .with("entries", BACKLOG_ENTRIES)
                    .with("duration", length)
                    .with("window", Math.min(window, length))
                    .with("rate", rate)
                    .with("share", 0.6)
                    .with("calibration", Math.min(3, length / 2))
                    .with(
                            "windows",
                            out.resolve("steady-" + kind.name() + ".csv").toAbsolutePath());
            String cannot = kind.limits().get(Limit.NEVER_SYNCS);
            measure(
                    "steady",
                    kind,
                    configuration("threads", writers, "entries", BACKLOG_ENTRIES, "seconds", length),
                    cannot != null ? cannot : kind.limits().get(Limit.NO_MARK),
                    step);
        }
    }

    // ---- measuring ------------------------------------------------------------------------------

    private Step step(String work, Kind kind, String heap) {
        Map<String, String> parameters = new LinkedHashMap<>();
        if (corpus != null) {
            parameters.put("corpus", corpus.toAbsolutePath().toString());
        }
        if (postgresql != null && kind.has(Limit.NEEDS_DATABASE)) {
            parameters.put("postgresql", postgresql);
        }
        Path place = directory.toAbsolutePath().resolve(kind.name());
        return new Step(work, kind.name(), place, heap, Duration.ofSeconds(timeout), parameters);
    }

    private static Map<String, String> configuration(Object... namesAndValues) {
        Map<String, String> configuration = new LinkedHashMap<>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            Object value = namesAndValues[i + 1];
            configuration.put(
                    namesAndValues[i].toString(),
                    value instanceof Integer number ? String.format(Locale.ROOT, "%,d", number) : value.toString());
        }
        return configuration;
    }

    private record Outcome(
            Map<String, Double> values, @Nullable String failure) {}

    private Outcome attempt(Step step, boolean fresh) throws IOException {
        String needsDatabase = Candidates.named(step.store()).limits().get(Limit.NEEDS_DATABASE);
        if (needsDatabase != null && postgresql == null) {
            return new Outcome(Map.of(), needsDatabase);
        }
        if (fresh) {
            Scenarios.delete(step.directory());
        }
        try {
            return new Outcome(Objects.requireNonNull(runner).run(step), null);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        } catch (Exception | LinkageError e) {
            return new Outcome(Map.of(), "failed: " + ChildJvm.reason(e));
        }
    }

    /** Measures in an empty directory, which is deleted afterwards. */
    private void measure(
            String scenario, Kind kind, Map<String, String> configuration, @Nullable String cannot, Step step)
            throws IOException {
        record(scenario, kind, configuration, cannot != null ? new Outcome(Map.of(), cannot) : attempt(step, true));
        Scenarios.delete(step.directory());
    }

    /** Measures in the directory as another step left it. */
    private void measureInPlace(
            String scenario, Kind kind, Map<String, String> configuration, @Nullable String cannot, Step like)
            throws IOException {
        Step step = new Step(scenario, like.store(), like.directory(), like.heap(), like.timeout(), like.parameters());
        record(scenario, kind, configuration, cannot != null ? new Outcome(Map.of(), cannot) : attempt(step, false));
    }

    private void record(String scenario, Kind kind, Map<String, String> configuration, Outcome outcome) {
        measurements.add(new Measurement(scenario, kind.name(), configuration, outcome.values(), outcome.failure()));
        System.out.printf(
                Locale.ROOT,
                "%6.0f s  %-8s %-20s %s  %s%n",
                (System.nanoTime() - began) / 1e9,
                scenario,
                kind.name(),
                configuration,
                outcome.failure() != null ? outcome.failure() : Report.brief(scenario, outcome.values()));
    }
}
