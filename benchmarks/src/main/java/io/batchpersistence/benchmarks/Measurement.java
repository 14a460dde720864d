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
 * @param scenario its name
 * @param store the candidate's name
 * @param configuration what the row is measured with, in the order to be shown
 * @param values by metric; empty if it failed
 * @param failure why there are no values; {@code null} if there are
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

        /** NaN if no repeat succeeded. */
        double median(String metric) {
            return Statistics.median(values(metric));
        }

        /** Why the first repeat that failed did; {@code null} if none did. */
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
