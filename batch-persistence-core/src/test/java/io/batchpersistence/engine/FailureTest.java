package io.batchpersistence.engine;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.FailureClassifier;
import io.batchpersistence.FailureClassifier.Kind;
import io.batchpersistence.PermanentDeliveryException;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(value = 20, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class FailureTest {

    private static Failure of(Throwable thrown) {
        return Failure.of(thrown, FailureClassifier.TRANSIENT);
    }

    @Test
    void what_waiting_for_a_future_puts_around_an_exception_is_taken_off() {
        Failure failure =
                of(new CompletionException(new ExecutionException(new PermanentDeliveryException("malformed"))));
        assertThat(failure.kind()).isEqualTo(Kind.PERMANENT);
        assertThat(failure.reason()).isEqualTo("malformed");
        assertThat(of(new Executing("alone")).reason()).contains("alone");
    }

    /** An exception whose cause can be set later. */
    private static final class Executing extends ExecutionException {
        private static final long serialVersionUID = 1L;

        Executing(String message) {
            super(message);
        }
    }

    @Test
    void causes_that_go_round_in_a_circle_are_a_failure_like_any_other() {
        ExecutionException outer = new Executing("outer");
        CompletionException inner = new CompletionException("inner", outer);
        outer.initCause(inner);
        Failure failure = of(outer);
        assertThat(failure.kind()).isEqualTo(Kind.TRANSIENT);
        assertThat(failure.reason()).containsAnyOf("outer", "inner");
    }
}
