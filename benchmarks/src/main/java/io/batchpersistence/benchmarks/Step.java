package io.batchpersistence.benchmarks;

import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * One piece of work for one process. Everything is text, since it goes over a command line.
 *
 * @param work which of {@link Scenarios}
 * @param store the candidate's name
 * @param directory where the store's files are
 * @param heap its {@code -Xmx}
 * @param timeout after which the process is ended
 * @param parameters of the work
 */
record Step(String work, String store, Path directory, String heap, Duration timeout, Map<String, String> parameters) {

    Step {
        parameters = Map.copyOf(parameters);
    }

    /** This step with another parameter. */
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

    /** Does a step and says what was measured. */
    @FunctionalInterface
    interface Runner {
        /**
         * Does it.
         *
         * @param step what
         * @return numbers by metric
         * @throws Exception with a message that says why there are none
         */
        Map<String, Double> run(Step step) throws Exception;
    }
}
