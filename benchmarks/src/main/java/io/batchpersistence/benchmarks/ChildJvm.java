package io.batchpersistence.benchmarks;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/** Runs a step in its own JVM, with the same class path, so that no store warms up or leaves garbage for another. */
final class ChildJvm implements Step.Runner {

    private static final String ERROR = "error";

    /**
     * The JVM options that the peers need. Those of Chronicle Queue are from its "Java 17 support" page; its analytics
     * are disabled, too.
     */
    private static final List<String> OPTIONS = List.of(
            "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
            "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
            "--add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED",
            "--add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED",
            "--add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
            "--add-opens=java.base/java.io=ALL-UNNAMED",
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "--add-opens=java.base/java.util=ALL-UNNAMED",
            "--enable-native-access=ALL-UNNAMED",
            "-Dchronicle.analytics.disable=true",
            "-Dchronicle.announcer.disable=true",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:+IgnoreUnrecognizedVMOptions",
            "--sun-misc-unsafe-memory-access=allow");

    /** The modules that a checkout is compared by; the benchmarks themselves are always those of this build. */
    private static final List<String> MODULES =
            List.of("batch-persistence-core", "batch-persistence-jdbc", "batch-persistence-spring-boot-starter");

    private final Path logs;
    private final @Nullable Path before;
    private int number;

    /**
     * @param logs the directory for the output of the child processes
     * @param before a built checkout of this project, for the stores that are {@link Candidate.Kind#before}
     */
    ChildJvm(Path logs, @Nullable Path before) {
        this.logs = logs;
        this.before = before;
    }

    @Override
    public Map<String, Double> run(Step step) throws IOException, InterruptedException {
        Files.createDirectories(logs);
        String name = String.format(Locale.ROOT, "%04d-%s-%s", ++number, step.work(), step.store());
        Path log = logs.resolve(name + ".txt");
        Path result = logs.resolve(name + ".properties");

        // Native libraries are unpacked into this directory.
        Path temporary = Files.createTempDirectory(logs.toAbsolutePath(), "tmp");
        try {
            return run(step, log, result, temporary);
        } finally {
            Scenarios.delete(temporary);
        }
    }

    private String classPath(Step step) throws IOException {
        String own = System.getProperty("java.class.path");
        return Candidates.named(step.store()).isBefore() ? classPath(own, Objects.requireNonNull(before)) : own;
    }

    /** The class path with this project's modules, but not the benchmarks, from another checkout. */
    static String classPath(String own, Path checkout) throws IOException {
        List<String> entries = new ArrayList<>();
        int replaced = 0;
        for (String entry : own.split(File.pathSeparator, -1)) {
            String name = moduleOf(entry);
            if (name != null) {
                entry = classes(checkout.resolve(name)).toString();
                replaced++;
            }
            entries.add(entry);
        }
        if (replaced != MODULES.size()) {
            throw new IOException("of " + MODULES + " only " + replaced + " are on the class path " + own);
        }
        return String.join(File.pathSeparator, entries);
    }

    private static @Nullable String moduleOf(String entry) {
        for (Path part : Path.of(entry)) {
            for (String module : MODULES) {
                // A directory of the build, or a jar of the local repository.
                if (part.toString().equals(module)) {
                    return module;
                }
            }
        }
        return null;
    }

    /** What "benchmarks/run --before" has compiled, or else a usual build. */
    private static Path classes(Path module) throws IOException {
        for (String target : List.of("target/quick/classes", "target/classes")) {
            if (Files.isDirectory(module.resolve(target))) {
                return module.resolve(target).toAbsolutePath();
            }
        }
        throw new IOException("there are no classes below " + module.resolve("target"));
    }

    private Map<String, Double> run(Step step, Path log, Path result, Path temporary)
            throws IOException, InterruptedException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.add("-Xmx" + step.heap());
        command.addAll(OPTIONS);
        command.add("-Djava.io.tmpdir=" + temporary);
        command.addAll(List.of("-cp", classPath(step), ChildJvm.class.getName()));
        command.addAll(List.of(
                result.toString(), step.work(), step.store(), step.directory().toString()));
        step.parameters().forEach((parameter, value) -> command.add(parameter + "=" + value));
        Process process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(log.toFile())
                .start();
        boolean ended;
        try {
            ended = process.waitFor(step.timeout().toMillis(), TimeUnit.MILLISECONDS);
        } finally {
            process.destroyForcibly().waitFor();
        }
        if (!ended) {
            throw new IOException("not finished within " + step.timeout().toSeconds() + " s");
        }
        Properties properties = new Properties();
        if (Files.exists(result)) {
            try (InputStream in = Files.newInputStream(result)) {
                properties.load(in);
            }
        }
        if (properties.containsKey(ERROR)) {
            throw new IOException(properties.getProperty(ERROR));
        }
        if (process.exitValue() != 0 || properties.isEmpty()) {
            String output = Files.readString(log, StandardCharsets.UTF_8);
            throw new IOException(
                    output.contains("OutOfMemoryError")
                            ? "out of memory with -Xmx" + step.heap()
                            : "process ended with exit code " + process.exitValue());
        }
        Map<String, Double> values = new LinkedHashMap<>();
        properties.stringPropertyNames().stream()
                .sorted()
                .forEach(metric -> values.put(metric, Double.valueOf(properties.getProperty(metric))));
        return values;
    }

    /** The entry point of the child process. */
    public static void main(String[] args) throws IOException {
        Properties properties = new Properties();
        int status = 0;
        try {
            Map<String, String> parameters = new LinkedHashMap<>();
            for (String parameter : Arrays.asList(args).subList(4, args.length)) {
                int equals = parameter.indexOf('=');
                parameters.put(parameter.substring(0, equals), parameter.substring(equals + 1));
            }
            Step step = new Step(args[1], args[2], Path.of(args[3]), "", Duration.ZERO, parameters);
            Scenarios.run(step).forEach((metric, value) -> properties.setProperty(metric, String.valueOf(value)));
        } catch (Exception | LinkageError e) {
            e.printStackTrace();
            properties.clear();
            properties.setProperty(ERROR, reason(e));
            status = 1;
        }
        try (OutputStream out = Files.newOutputStream(Path.of(args[0]))) {
            properties.store(out, null);
        }
        // Halt, whatever threads a peer has left running.
        Runtime.getRuntime().halt(status);
    }

    /** Returns the failure as one line, for a table. */
    static String reason(Throwable failure) {
        Throwable cause = failure;
        while (cause.getCause() != null
                && (cause.getMessage() == null || cause.getMessage().contains("Exception"))) {
            cause = cause.getCause();
        }
        String text = cause.getMessage() == null
                ? cause.getClass().getSimpleName()
                : cause instanceof IOException || cause instanceof IllegalStateException
                        ? cause.getMessage()
                        : cause.getClass().getSimpleName() + ": " + cause.getMessage();
        return text.lines().findFirst().orElse("");
    }
}
