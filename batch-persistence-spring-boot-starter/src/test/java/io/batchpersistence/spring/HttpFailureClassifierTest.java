package io.batchpersistence.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.FailureClassifier;
import io.batchpersistence.FailureClassifier.Classification;
import io.batchpersistence.test.ManualClock;
import java.io.IOException;
import java.net.ConnectException;
import java.net.SocketTimeoutException;
import java.net.http.HttpTimeoutException;
import java.nio.channels.UnresolvedAddressException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.TimeoutException;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.test.context.FilteredClassLoader;
import org.springframework.core.codec.DecodingException;
import org.springframework.core.codec.EncodingException;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpStatusCode;
import org.springframework.http.converter.HttpMessageConversionException;
import org.springframework.http.converter.HttpMessageNotWritableException;
import org.springframework.web.client.HttpClientErrorException;
import org.springframework.web.client.HttpServerErrorException;
import org.springframework.web.client.ResourceAccessException;
import org.springframework.web.client.RestClientException;
import org.springframework.web.client.RestClientResponseException;
import org.springframework.web.client.UnknownHttpStatusCodeException;
import org.springframework.web.reactive.function.client.WebClientResponseException;

class HttpFailureClassifierTest {

    private final ManualClock clock = new ManualClock(Instant.parse("2026-01-01T00:00:00Z"));
    private final FailureClassifier classifier = new HttpFailureClassifier(clock);

    private static HttpHeaders headers(@Nullable String retryAfter) {
        HttpHeaders headers = new HttpHeaders();
        if (retryAfter != null) {
            headers.set(HttpHeaders.RETRY_AFTER, retryAfter);
        }
        return headers;
    }

    private static RestClientResponseException rest(int status, @Nullable String retryAfter) {
        HttpStatusCode code = HttpStatusCode.valueOf(status);
        if (code.is4xxClientError()) {
            return HttpClientErrorException.create(code, "", headers(retryAfter), new byte[0], StandardCharsets.UTF_8);
        }
        return code.is5xxServerError()
                ? HttpServerErrorException.create(code, "", headers(retryAfter), new byte[0], StandardCharsets.UTF_8)
                : new UnknownHttpStatusCodeException(status, "", headers(retryAfter), new byte[0], null);
    }

    private static WebClientResponseException web(int status, @Nullable String retryAfter) {
        return WebClientResponseException.create(status, "", headers(retryAfter), new byte[0], null);
    }

    private void both(int status, @Nullable String retryAfter, Classification expected) {
        assertThat(classifier.classify(rest(status, retryAfter))).isEqualTo(expected);
        assertThat(classifier.classify(web(status, retryAfter))).isEqualTo(expected);
    }

    @ParameterizedTest
    @ValueSource(ints = {400, 413, 422})
    void what_the_collector_will_never_take_is_permanent(int status) {
        both(status, null, Classification.PERMANENT);
    }

    @ParameterizedTest
    @ValueSource(ints = {401, 403, 404, 405, 408, 409, 410, 415, 418, 500, 502, 503, 504, 507, 599, 301})
    void what_can_be_put_right_is_transient(int status) {
        both(status, null, Classification.TRANSIENT);
    }

    @ParameterizedTest
    @CsvSource({
        "120,PT2M",
        "' 5 ',PT5S",
        "0,PT0S",
        "'Thu, 01 Jan 2026 00:01:00 GMT',PT1M",
        "'Wed, 31 Dec 2025 23:00:00 GMT',PT0S",
        "soon,PT0S",
        "-5,PT0S",
        "99999999999999999999,PT0S"
    })
    void retry_after_is_seconds_or_a_date(String header, Duration expected) {
        both(429, header, Classification.retryAfter(expected));
        both(503, header, expected.isZero() ? Classification.TRANSIENT : Classification.retryAfter(expected));
    }

    @Test
    void too_many_requests_is_a_wish_to_wait_also_without_saying_how_long() {
        both(429, null, Classification.retryAfter(Duration.ZERO));
    }

    @Test
    void failures_on_the_way_and_anything_unknown_are_transient() {
        for (Throwable failure : new Throwable[] {
            new IOException("broken pipe"),
            new ConnectException("refused"),
            new SocketTimeoutException("read timed out"),
            new HttpTimeoutException("request timed out"),
            new TimeoutException(),
            new ResourceAccessException("I/O error", new IOException()),
            new IllegalStateException("who knows"),
            new OutOfMemoryError()
        }) {
            assertThat(classifier.classify(failure)).as(failure.toString()).isEqualTo(Classification.TRANSIENT);
        }
    }

    @Test
    void
            a_batch_that_can_not_be_turned_into_a_request_has_itself_to_blame_and_an_answer_that_can_not_be_read_has_not() {
        for (Throwable failure : new Throwable[] {
            new NullPointerException(),
            new NumberFormatException("not a port"),
            new HttpMessageNotWritableException("no converter"),
            new EncodingException("no encoder"),
        }) {
            assertThat(classifier.classify(failure)).as(failure.toString()).isEqualTo(Classification.BATCH);
        }
        for (Throwable failure : new Throwable[] {
            new UnresolvedAddressException(),
            new HttpMessageConversionException("neither read nor written"),
            new DecodingException("an answer in HTML"),
            new RestClientException("failed on the way", new NullPointerException()),
        }) {
            assertThat(classifier.classify(failure)).as(failure.toString()).isEqualTo(Classification.TRANSIENT);
        }
    }

    @Test
    void neither_client_is_needed() throws Exception {
        try (FilteredClassLoader none =
                new FilteredClassLoader("org.springframework.web", "org.springframework.http")) {
            Class<?> type = Class.forName(HttpFailureClassifier.class.getName(), true, new Isolated(none));
            Object isolated = type.getConstructor(java.time.Clock.class).newInstance(clock);
            assertThat(type.getClassLoader()).isInstanceOf(Isolated.class);
            assertThat(((FailureClassifier) isolated).classify(new IOException("refused")))
                    .isEqualTo(Classification.TRANSIENT);
        }
    }

    /** Redefines the classifier, so that it finds only the classes that its parent class loader exposes. */
    private static final class Isolated extends ClassLoader {
        Isolated(ClassLoader parent) {
            super(parent);
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            if (!name.startsWith(HttpFailureClassifier.class.getName())) {
                return super.loadClass(name, resolve);
            }
            Class<?> loaded = findLoadedClass(name);
            if (loaded != null) {
                return loaded;
            }
            try (var in = HttpFailureClassifier.class
                    .getClassLoader()
                    .getResourceAsStream(name.replace('.', '/') + ".class")) {
                byte[] bytes = in.readAllBytes();
                return defineClass(name, bytes, 0, bytes.length);
            } catch (IOException e) {
                throw new ClassNotFoundException(name, e);
            }
        }
    }
}
