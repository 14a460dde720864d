package io.batchpersistence.benchmarks;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.benchmarks.Statistics.Durations;
import java.util.List;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

class StatisticsTest {

    @Test
    void the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assertThat(Statistics.median(List.of(9.0, 1.0, 5.0))).isEqualTo(5);
        assertThat(Statistics.median(List.of(4.0, 1.0, 2.0, 9.0))).isEqualTo(3);
        assertThat(Statistics.median(List.of(7.0))).isEqualTo(7);
        assertThat(Statistics.median(List.of())).isNaN();
    }

    @Test
    void a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() {
        long[] values = LongStream.rangeClosed(1, 1000).map(i -> 1001 - i).toArray();
        assertThat(Statistics.percentile(values, 50)).isEqualTo(500);
        assertThat(Statistics.percentile(values, 99)).isEqualTo(990);
        assertThat(Statistics.percentile(values, 99.9)).isEqualTo(999);
        assertThat(Statistics.percentile(values, 99.91)).isEqualTo(1000);
        assertThat(Statistics.percentile(values, 100)).isEqualTo(1000);
        assertThat(Statistics.percentile(values, 0.01)).isEqualTo(1);
        assertThat(Statistics.percentile(new long[] {42}, 99.9)).isEqualTo(42);
        assertThat(Statistics.percentile(new long[0], 50)).isNaN();
        assertThat(values[0]).as("left as it was").isEqualTo(1000);
    }

    @Test
    void the_durations_of_all_threads_are_one_sorted_list() {
        Durations one = new Durations();
        LongStream.range(0, 5_000).forEach(i -> one.add(5_000 - i));
        Durations other = new Durations();
        other.add(-1);
        long[] sorted = Statistics.sorted(List.of(one, other, new Durations()));
        assertThat(sorted).hasSize(5_001).isSorted().startsWith(-1, 1).endsWith(5_000);
    }
}
