package io.batchpersistence.spring;

import io.batchpersistence.FailureClassifier;
import java.time.Clock;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import org.jspecify.annotations.Nullable;
import org.springframework.http.HttpHeaders;
import org.springframework.util.ClassUtils;
import org.springframework.web.client.RestClientResponseException;
import org.springframework.web.reactive.function.client.WebClientResponseException;

/**
 * Classifies the responses of HTTP collectors if Spring's {@code RestClient} (or {@code RestTemplate}) or {@code
 * WebClient} is on the class path. All other failures are classified as by {@link FailureClassifier#DEFAULT}: if a
 * batch can't be turned into a request, the batch itself is the cause; everything else, I/O errors and timeouts
 * included, is transient.
 *
 * <table>
 * <caption>What a status means</caption>
 * <tr><td>400, 413, 422</td><td>permanent: the collector has read this batch and will never take it</td></tr>
 * <tr><td>429; 503 with {@code Retry-After}</td><td>retry later, when {@code Retry-After} says</td></tr>
 * <tr><td>any other</td><td>transient: the cause (credentials, address, the collector itself) affects all batches and
 * can be fixed</td></tr>
 * </table>
 *
 * <p>A bean of type {@link FailureClassifier} replaces this one; it may delegate to an instance of this class for
 * failures that it doesn't know. Thread-safe.
 */
public final class HttpFailureClassifier implements FailureClassifier {

    private static final String REST_CLIENT = "org.springframework.web.client.RestClientResponseException";
    private static final String WEB_CLIENT =
            "org.springframework.web.reactive.function.client.WebClientResponseException";

    private final Clock clock;
    private final boolean restClient;
    private final boolean webClient;

    /**
     * Creates a classifier for the HTTP clients that are on the class path.
     *
     * @param clock the current time, for a {@code Retry-After} that is a date
     */
    public HttpFailureClassifier(Clock clock) {
        this(clock, HttpFailureClassifier.class.getClassLoader());
    }

    HttpFailureClassifier(Clock clock, @Nullable ClassLoader classes) {
        this.clock = clock;
        this.restClient = ClassUtils.isPresent(REST_CLIENT, classes);
        this.webClient = ClassUtils.isPresent(WEB_CLIENT, classes);
    }

    @Override
    public Classification classify(Throwable failure) {
        if (restClient && RestClient.knows(failure)) {
            return RestClient.classify(failure, clock.instant());
        }
        if (webClient && WebClient.knows(failure)) {
            return WebClient.classify(failure, clock.instant());
        }
        return DEFAULT.classify(failure);
    }

    private static Classification classify(int status, @Nullable String retryAfter, Instant now) {
        Duration delay = delay(retryAfter, now);
        return switch (status) {
            case 400, 413, 422 -> Classification.PERMANENT;
            case 429 -> Classification.retryAfter(delay);
            case 503 -> delay.isZero() ? Classification.TRANSIENT : Classification.retryAfter(delay);
            default -> Classification.TRANSIENT;
        };
    }

    /** Seconds or a date (RFC 9110, 10.2.3); zero if it is neither or in the past. */
    private static Duration delay(@Nullable String retryAfter, Instant now) {
        if (retryAfter == null) {
            return Duration.ZERO;
        }
        String text = retryAfter.strip();
        try {
            Duration delay = text.matches("[0-9]{1,9}")
                    ? Duration.ofSeconds(Long.parseLong(text))
                    : Duration.between(
                            now,
                            ZonedDateTime.parse(text, DateTimeFormatter.RFC_1123_DATE_TIME)
                                    .toInstant());
            return delay.isNegative() ? Duration.ZERO : delay;
        } catch (DateTimeException e) {
            return Duration.ZERO;
        }
    }

    /**
     * A separate class, loaded only if this client is present: not even a signature of the outer class may name its
     * types.
     */
    private static final class RestClient {

        static boolean knows(Throwable failure) {
            return failure instanceof RestClientResponseException;
        }

        static Classification classify(Throwable failure, Instant now) {
            RestClientResponseException answer = (RestClientResponseException) failure;
            HttpHeaders headers = answer.getResponseHeaders();
            return HttpFailureClassifier.classify(
                    answer.getStatusCode().value(),
                    headers == null ? null : headers.getFirst(HttpHeaders.RETRY_AFTER),
                    now);
        }
    }

    /**
     * A separate class, loaded only if this client is present: not even a signature of the outer class may name its
     * types.
     */
    private static final class WebClient {

        static boolean knows(Throwable failure) {
            return failure instanceof WebClientResponseException;
        }

        static Classification classify(Throwable failure, Instant now) {
            WebClientResponseException answer = (WebClientResponseException) failure;
            return HttpFailureClassifier.classify(
                    answer.getStatusCode().value(), answer.getHeaders().getFirst(HttpHeaders.RETRY_AFTER), now);
        }
    }
}
