package io.batchpersistence.sample;

import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.internal.log.LogSanitizer;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Clock;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.Locale;
import java.util.Map;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * Posts a body to a collector and reports what the response means for the batch: delivered, retry, retry after a given
 * delay, or never retry. Thread-safe.
 */
final class CollectorClient {

    /** The maximum wait that a collector can ask for; longer ones are reduced to this. */
    private static final Duration LONGEST_WAIT = Duration.ofHours(1);

    /** The maximum number of characters of a response that are quoted. */
    private static final int QUOTE = 300;

    /**
     * The maximum size of a response in bytes: Elasticsearch responds with some hundred bytes for each entry of a
     * batch.
     */
    static final int MAX_ANSWER = 16 << 20;

    private final String name;
    private final Supplier<URI> url;
    private final Map<String, String> headers;
    private final Duration requestTimeout;
    private final Clock clock;
    private final HttpClient http;

    /**
     * Creates a client for one collector.
     *
     * @param name the collector's name in failure reasons
     * @param url the base URL, evaluated at every request because the built-in collector's port is known late
     * @param headers headers of every request
     * @param connectTimeout how long connecting may take
     * @param requestTimeout how long the response may take
     * @param clock the current time, for a {@code Retry-After} that is a date
     */
    CollectorClient(
            String name,
            Supplier<URI> url,
            Map<String, String> headers,
            Duration connectTimeout,
            Duration requestTimeout,
            Clock clock) {
        this.name = name;
        this.url = url;
        this.headers = Map.copyOf(headers);
        this.requestTimeout = requestTimeout;
        this.clock = clock;
        this.http = HttpClient.newBuilder()
                .version(HttpClient.Version.HTTP_1_1)
                .connectTimeout(connectTimeout)
                // A proxy whose session has expired redirects every request to its login page, which responds with 200.
                .followRedirects(HttpClient.Redirect.NEVER)
                .build();
    }

    /** The value of a header {@code Authorization} for basic authentication. */
    static String basic(String username, @Nullable String password) {
        String pair = username + ":" + (password == null ? "" : password);
        return "Basic " + Base64.getEncoder().encodeToString(pair.getBytes(StandardCharsets.UTF_8));
    }

    /**
     * Posts a body.
     *
     * @param path the path below the base URL
     * @param contentType the content type of the body
     * @param body the body
     * @return the body of a 2xx response; empty, or JSON
     * @throws PermanentDeliveryException if the collector will never accept it
     * @throws RetryAfterException if the collector says when to retry
     * @throws IOException if the collector did not accept it now
     * @throws InterruptedException if the thread was interrupted
     */
    byte[] post(String path, String contentType, byte[] body) throws IOException, InterruptedException {
        URI target = resolve(url.get(), path);
        HttpRequest.Builder request = HttpRequest.newBuilder(target)
                .timeout(requestTimeout)
                .header("Content-Type", contentType)
                .POST(BodyPublishers.ofByteArray(body));
        headers.forEach(request::header);
        HttpResponse<InputStream> response;
        byte[] answer;
        try {
            response = http.send(request.build(), BodyHandlers.ofInputStream());
            try (InputStream in = response.body()) {
                // Limited, because the response of an arbitrary server may be endless.
                answer = in.readNBytes(MAX_ANSWER + 1);
            }
        } catch (IOException e) {
            // Some of the client's exceptions have no message, and none contains the URL.
            throw new IOException(name + " at " + shown(target) + " can't be reached: " + e, e);
        }
        check(response, answer, target);
        if (answer.length > MAX_ANSWER) {
            throw new IOException(name + " at " + shown(target) + " answered with more than " + MAX_ANSWER + " bytes");
        }
        return answer;
    }

    /** Returns a URL without user and password, which some users put into it. */
    static String shown(@Nullable URI url) {
        String text = String.valueOf(url);
        return url == null || url.getRawUserInfo() == null ? text : text.replace(url.getRawUserInfo() + "@", "");
    }

    private static URI resolve(URI base, String path) {
        String text = base.toString();
        return URI.create((text.endsWith("/") ? text.substring(0, text.length() - 1) : text) + path);
    }

    private void check(HttpResponse<?> response, byte[] answer, URI target) throws IOException {
        int status = response.statusCode();
        if (status / 100 == 2) {
            checkContent(response, answer, target);
            return;
        }
        String reason = name + " at " + shown(target) + " answered " + status + quote(answer);
        switch (status) {
            case 429, 503 -> {
                Duration wait =
                        retryAfter(response.headers().firstValue("Retry-After").orElse(""));
                if (wait != null) {
                    throw new RetryAfterException(wait, reason);
                }
                throw new IOException(reason);
            }
            // The configuration or the collector can be fixed, and no line is lost in the meantime.
            case 401, 403, 404, 405, 407, 408, 421, 423, 425 -> throw new IOException(reason);
            default -> {
                if (status / 100 == 4) {
                    throw new PermanentDeliveryException(reason);
                }
                throw new IOException(reason);
            }
        }
    }

    /**
     * Collectors respond with JSON or with no body. Anything else comes from an intermediary: a login page, for
     * instance.
     */
    private void checkContent(HttpResponse<?> response, byte[] answer, URI target) throws IOException {
        String type = response.headers().firstValue("Content-Type").orElse("").toLowerCase(Locale.ROOT);
        String media = type.contains(";") ? type.substring(0, type.indexOf(';')) : type;
        if (answer.length > 0 && !media.strip().endsWith("json")) {
            throw new IOException(name + " at " + shown(target) + " answered " + response.statusCode() + ", but with "
                    + (type.isEmpty() ? "content of no type" : LogSanitizer.of(type))
                    + " instead of JSON, so it was not the collector"
                    + quote(answer));
        }
    }

    private static String quote(byte[] body) {
        String text =
                LogSanitizer.of(new String(body, 0, Math.min(body.length, 4 * QUOTE), StandardCharsets.UTF_8).strip());
        return text.isEmpty() ? "" : ": " + (text.length() > QUOTE ? text.substring(0, QUOTE) + "…" : text);
    }

    /** Seconds or a date; {@code null} if it is neither. */
    private @Nullable Duration retryAfter(String header) {
        String text = header.strip();
        Duration wait;
        if (text.matches("\\d{1,18}")) {
            wait = Duration.ofSeconds(Long.parseLong(text));
        } else {
            try {
                Instant then = ZonedDateTime.parse(text, DateTimeFormatter.RFC_1123_DATE_TIME.withLocale(Locale.ROOT))
                        .toInstant();
                wait = Duration.between(clock.instant(), then);
            } catch (DateTimeException e) {
                return null;
            }
        }
        if (wait.isNegative()) {
            return Duration.ZERO;
        }
        return wait.compareTo(LONGEST_WAIT) > 0 ? LONGEST_WAIT : wait;
    }
}
