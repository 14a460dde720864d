package io.batchpersistence.benchmarks;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * One store, one scenario, one configuration, one repeat.
 *
 * @param scenario the scenario's name
 * @param store the candidate's name
 * @param configuration the configuration of the row, in display order
 * @param values the values by metric; empty if the measurement failed
 * @param failure why there are no values; {@code null} if there are values
 */
record Measurement(
        String scenario,
        String store,
        Map<String, String> configuration,
        Map<String, Double> values,
        @Nullable String failure) {

    Measurement {
        configuration = Collections.unmodifiableMap(new LinkedHashMap<>(configuration));
        values = Collections.unmodifiableMap(new LinkedHashMap<>(values));
    }

    /** All repeats of one store in one scenario and configuration. */
    record Row(String scenario, String store, Map<String, String> configuration, List<Measurement> repeats) {

        static List<Row> of(List<Measurement> measurements) {
            Map<List<Object>, List<Measurement>> byKey = new LinkedHashMap<>();
            for (Measurement m : measurements) {
                byKey.computeIfAbsent(List.of(m.scenario(), m.store(), m.configuration()), key -> new ArrayList<>())
                        .add(m);
            }
            return byKey.values().stream()
                    .map(repeats -> new Row(
                            repeats.get(0).scenario(),
                            repeats.get(0).store(),
                            repeats.get(0).configuration(),
                            List.copyOf(repeats)))
                    .toList();
        }

        /** The values of the repeats that succeeded. */
        List<Double> values(String metric) {
            return repeats.stream()
                    .filter(m -> m.values().containsKey(metric))
                    .map(m -> m.values().get(metric))
                    .toList();
        }

        /** The median of the successful repeats; NaN if no repeat succeeded. */
        double median(String metric) {
            return Statistics.median(values(metric));
        }

        /** The failure of the first failed repeat; {@code null} if none failed. */
        @Nullable
        String failure() {
            for (Measurement m : repeats) {
                if (m.failure() != null) {
                    return m.failure();
                }
            }
            return null;
        }
    }
}
