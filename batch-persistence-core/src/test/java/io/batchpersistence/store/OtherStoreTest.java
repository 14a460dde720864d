package io.batchpersistence.store;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.CollectorStats;
import io.batchpersistence.spi.BatchStore;
import java.util.Locale;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The kind of the store changes, but not its directory. */
class OtherStoreTest extends DiskStoreFixture {

    private static StoreKind other(StoreKind kind) {
        return kind == StoreKind.SEGMENT ? StoreKind.JSON_FILES : StoreKind.SEGMENT;
    }

    @ParameterizedTest
    @EnumSource
    void batches_of_another_kind_of_store_are_not_passed_over(StoreKind kind) {
        try (BatchStore store = open(kind)) {
            append(store, "a", "b");
            assertThat(store.delivered("b")).isNotNull();
        }
        for (int tries = 0; tries < 2; tries++) {
            assertThatExceptionOfType(BatchPersistenceException.class)
                    .isThrownBy(() -> open(other(kind)).close())
                    .withMessageContaining(directory.toString())
                    .withMessageContaining("by the store '" + kind.name().toLowerCase(Locale.ROOT) + "'")
                    .withMessageContaining("use another directory");
        }
        try (BatchStore store = open(kind)) {
            assertThat(store.find("a")).isPresent();
            CollectorStats total = store.stats().total();
            assertThat(total.isBalanced()).isTrue();
            assertThat(total.corrupt()).isZero();
            assertThat(total.pending()).isOne();
        }
    }
}
