package io.batchpersistence.store;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/** A process with the class path of this one, made to be killed. */
public final class ChildJvm implements AutoCloseable {

    private static final int KILLED = 128 + 9;

    private final Process process;
    private final BufferedReader out;
    private final Path errors;

    /** Starts {@code main} and writes its standard error to that file. */
    public ChildJvm(Class<?> main, Path errors, String... arguments) throws IOException {
        this(main, errors, List.of("-Xmx128m"), "", arguments);
    }

    /**
     * Starts {@code main} with other limits.
     *
     * @param options for the JVM
     * @param before a shell command to run first in the same process, such as {@code ulimit}; may be empty
     */
    public ChildJvm(Class<?> main, Path errors, List<String> options, String before, String... arguments)
            throws IOException {
        List<String> command = new ArrayList<>();
        if (!before.isEmpty()) {
            command.addAll(List.of("sh", "-c", before + "; exec \"$@\"", "sh"));
        }
        command.addAll(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xshare:auto",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC"));
        command.addAll(options);
        String classPath =
                before.isEmpty() ? System.getProperty("java.class.path") : jars(errors.resolveSibling("jars"));
        command.addAll(List.of("-cp", classPath, main.getName()));
        command.addAll(List.of(arguments));
        this.errors = errors;
        this.process =
                new ProcessBuilder(command).redirectError(errors.toFile()).start();
        this.out = process.inputReader(StandardCharsets.UTF_8);
    }

    /**
     * Packs the class path into jars, as in an application: reading a class from a directory takes one more file
     * descriptor. All users who can read the directory can read the jars.
     */
    private static String jars(Path into) throws IOException {
        Files.createDirectories(into);
        List<String> entries = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator, -1)) {
            Path path = Path.of(entry);
            if (Files.isDirectory(path)) {
                Path jar = into.resolve(entries.size() + ".jar");
                try (ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(jar));
                        Stream<Path> files = Files.walk(path)) {
                    for (Path file : files.filter(Files::isRegularFile).toList()) {
                        out.putNextEntry(new ZipEntry(path.relativize(file).toString()));
                        Files.copy(file, out);
                    }
                }
                entries.add(jar.toString());
            } else if (Files.exists(path)) {
                // Another user may not be allowed to read the local Maven repository.
                Path jar = into.resolve(entries.size() + ".jar");
                try {
                    Files.createLink(jar, path);
                } catch (IOException | UnsupportedOperationException e) {
                    Files.copy(path, jar);
                }
                entries.add(jar.toString());
            }
        }
        return String.join(File.pathSeparator, entries);
    }

    public long pid() {
        return process.pid();
    }

    /** Returns the next line of standard output, or {@code null} after the process has ended and all output is read. */
    public String readLine() throws IOException {
        return out.readLine();
    }

    /** Writes a line to its standard input. */
    public void writeLine(String line) throws IOException {
        process.getOutputStream().write((line + "\n").getBytes(StandardCharsets.UTF_8));
        process.getOutputStream().flush();
    }

    /**
     * Sends SIGKILL and returns at once. Does not use Process.destroyForcibly(), which discards the output in the pipe.
     */
    public void kill() {
        process.toHandle().destroyForcibly();
    }

    /** Sends SIGSTOP: the process stops until {@linkplain #thaw() thawed}. */
    public void freeze() throws IOException, InterruptedException {
        signal("STOP");
    }

    /** Sends SIGCONT. */
    public void thaw() throws IOException, InterruptedException {
        signal("CONT");
    }

    private void signal(String name) throws IOException, InterruptedException {
        int exit = new ProcessBuilder("kill", "-" + name, String.valueOf(pid()))
                .inheritIO()
                .start()
                .waitFor();
        if (exit != 0) {
            throw new IOException("kill -" + name + " " + pid() + " ended with " + exit);
        }
    }

    /** Waits for the end of the process, which the kill must have caused. */
    public void awaitKilled() throws InterruptedException {
        int exit = process.waitFor();
        if (exit != KILLED) {
            throw new AssertionError("the child ended by itself with " + exit + ":\n" + errors());
        }
    }

    /** Reads all output, waits for a successful exit, and returns the lines. */
    public List<String> awaitPassed() throws IOException, InterruptedException {
        List<String> lines = out.lines().toList();
        int exit = process.waitFor();
        if (exit != 0) {
            throw new AssertionError(
                    "the child ended with " + exit + ":\n" + String.join("\n", lines) + "\n" + errors());
        }
        return lines;
    }

    public String errors() {
        try {
            return Files.readString(errors);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public void close() {
        process.destroyForcibly();
    }
}
