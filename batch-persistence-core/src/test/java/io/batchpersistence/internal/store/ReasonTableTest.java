package io.batchpersistence.internal.store;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

class ReasonTableTest {

    private final ReasonTable table = new ReasonTable();

    @Test
    void equal_reasons_are_one_and_go_with_their_last_user() {
        int first = table.acquire("connection refused");
        int second = table.acquire("connection refused");
        assertThat(second).isEqualTo(first);

        table.release(first);
        assertThat(table.text(first)).isEqualTo("connection refused");

        table.release(second);
        assertThat(table.text(first)).isNull();
        assertThat(table.acquire("timeout")).as("its number is used again").isEqualTo(first);
    }

    @Test
    void no_reason_is_no_text() {
        assertThat(table.text(BatchIndex.NONE)).isNull();
        table.release(BatchIndex.NONE);
    }

    @Test
    void many_reasons_that_differ_in_numbers_become_one() {
        for (int i = 0; i < ReasonTable.MAX_EXACT; i++) {
            table.acquire("reason " + i);
        }
        assertThat(table.text(table.acquire("request 4711 to port 80 failed"))).isEqualTo("request # to port # failed");
        assertThat(table.acquire("request 1 to port 443 failed"))
                .isEqualTo(table.acquire("request 2 to port 8 failed"));
        assertThat(table.text(table.acquire("reason 17")))
                .as("a known one stays exact")
                .isEqualTo("reason 17");
    }

    @Test
    void however_many_there_are_the_table_is_bounded_and_gives_all_back() {
        List<Integer> acquired = new ArrayList<>();
        for (int i = 0; i < 100_000; i++) {
            acquired.add(table.acquire("no digits in " + letters(i)));
        }
        Set<Integer> different = new HashSet<>(acquired);
        assertThat(different).hasSizeLessThanOrEqualTo(ReasonTable.MAX + 1);
        assertThat(table.text(acquired.get(99_999))).isEqualTo("(one of many other reasons)");

        acquired.forEach(table::release);
        assertThat(different)
                .allSatisfy(number -> assertThat(table.text(number)).isNull());
        assertThat(table.text(table.acquire("exact again, 42 times"))).isEqualTo("exact again, 42 times");
    }

    private static String letters(int number) {
        return Integer.toString(number, 36)
                .chars()
                .collect(
                        StringBuilder::new,
                        (text, c) -> text.append((char) (c <= '9' ? c + 'A' - '0' : c)),
                        StringBuilder::append)
                .toString();
    }
}
