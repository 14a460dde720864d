package io.batchpersistence.store;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** A process with the class path of this one, to be killed. */
final class ChildJvm implements AutoCloseable {

    private static final int KILLED = 128 + 9;

    private final Process process;
    private final BufferedReader out;
    private final Path errors;

    /** Starts {@code main} and keeps what it says to standard error in that file. */
    ChildJvm(Class<?> main, Path errors, String... arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Xshare:auto",
                "-XX:TieredStopAtLevel=1",
                "-Xmx128m",
                "-cp",
                System.getProperty("java.class.path"),
                main.getName()));
        command.addAll(List.of(arguments));
        this.errors = errors;
        this.process =
                new ProcessBuilder(command).redirectError(errors.toFile()).start();
        this.out = process.inputReader(StandardCharsets.UTF_8);
    }

    long pid() {
        return process.pid();
    }

    /** The next line it says; {@code null} when it is gone and all it said has been read. */
    String readLine() throws IOException {
        return out.readLine();
    }

    /** Sends SIGKILL; returns at once. Not by the process itself, which would throw away what is still in the pipe. */
    void kill() {
        process.toHandle().destroyForcibly();
    }

    /** Waits for its end, which must have been the kill. */
    void awaitKilled() throws InterruptedException {
        int exit = process.waitFor();
        if (exit != KILLED) {
            throw new AssertionError("the child ended by itself with " + exit + ":\n" + errors());
        }
    }

    String errors() {
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
