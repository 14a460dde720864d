package io.batchpersistence.benchmarks;

import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * One piece of work for one process. Everything is text, since it is passed on a command line.
 *
 * @param work the piece of work in {@link Scenarios}
 * @param store the candidate's name
 * @param directory the directory of the store's files
 * @param heap the process's {@code -Xmx}
 * @param timeout the time after which the process is killed
 * @param parameters the parameters of the work
 */
record Step(String work, String store, Path directory, String heap, Duration timeout, Map<String, String> parameters) {

    Step {
        parameters = Map.copyOf(parameters);
    }

    /** Returns this step with another parameter. */
    Step with(String name, Object value) {
        Map<String, String> more = new LinkedHashMap<>(parameters);
        more.put(name, String.valueOf(value));
        return new Step(work, store, directory, heap, timeout, more);
    }

    String text(String name) {
        String value = parameters.get(name);
        if (value == null) {
            throw new IllegalArgumentException("work '" + work + "' needs the parameter '" + name + "'");
        }
        return value;
    }

    int integer(String name) {
        return Integer.parseInt(text(name));
    }

    double decimal(String name) {
        return Double.parseDouble(text(name));
    }

    boolean flag(String name) {
        return Boolean.parseBoolean(parameters.get(name));
    }

    @Nullable
    Path path(String name) {
        String value = parameters.get(name);
        return value == null ? null : Path.of(value);
    }

    /** Runs a step and returns what was measured. */
    @FunctionalInterface
    interface Runner {
        /**
         * Runs a step.
         *
         * @param step the step
         * @return the values by metric
         * @throws Exception if there are none; the message says why
         */
        Map<String, Double> run(Step step) throws Exception;
    }
}
