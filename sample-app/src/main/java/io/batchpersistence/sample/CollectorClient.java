package io.batchpersistence.sample;

import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.RetryAfterException;
import io.batchpersistence.SingleLine;
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
 * Posts a body to a collector and says what its answer means for the batch: delivered, try again, try again then, or never.
 * Thread-safe.
 */
final class CollectorClient {

    /** No collector is believed when it wants to be left alone for longer. */
    private static final Duration LONGEST_WAIT = Duration.ofHours(1);

    /** How much of an answer is quoted. */
    private static final int QUOTE = 300;

    /** The largest answer: one from Elasticsearch has some hundred bytes for each entry of a batch. */
    static final int MAX_ANSWER = 16 << 20;

    private final String name;
    private final Supplier<URI> url;
    private final Map<String, String> headers;
    private final Duration requestTimeout;
    private final Clock clock;
    private final HttpClient http;

    /**
     * For one collector.
     *
     * @param name as it is called in failure reasons
     * @param url its base, asked for at every request since the built-in collector's port is known late
     * @param headers sent with every request
     * @param connectTimeout how long a connection may take
     * @param requestTimeout how long the answer may take
     * @param clock tells how far away a date in {@code Retry-After} is
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
                // A proxy whose session has ended sends everybody to its login page, which answers 200.
                .followRedirects(HttpClient.Redirect.NEVER)
                .build();
    }

    /** The value of a header {@code Authorization} for basic authentication. */
    static String basic(String username, @Nullable String password) {
        String pair = username + ":" + (password == null ? "" : password);
        return "Basic " + Base64.getEncoder().encodeToString(pair.getBytes(StandardCharsets.UTF_8));
    }

    /**
     * Posts.
     *
     * @param path what comes after the base
     * @param contentType of the body
     * @param body to be sent
     * @return the body of a 2xx answer; empty, or JSON
     * @throws PermanentDeliveryException if it will never be taken
     * @throws RetryAfterException if the collector says when to try again
     * @throws IOException if it was not taken now
     * @throws InterruptedException if the thread was interrupted meanwhile
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
                answer = in.readNBytes(MAX_ANSWER + 1); // a collector may be anybody, and its answer without end
            }
        } catch (IOException e) {
            // Some of the client's exceptions have no message, and none says where.
            throw new IOException(name + " at " + shown(target) + " can't be reached: " + e, e);
        }
        check(response, answer, target);
        if (answer.length > MAX_ANSWER) {
            throw new IOException(name + " at " + shown(target) + " answered with more than " + MAX_ANSWER + " bytes");
        }
        return answer;
    }

    /** A URL without user and password, which some put there. */
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
            // The configuration or the collector is to be mended, and no line is lost because that takes a while.
            case 401, 403, 404, 405, 407, 408, 421, 423, 425 -> throw new IOException(reason);
            default -> {
                if (status / 100 == 4) {
                    throw new PermanentDeliveryException(reason);
                }
                throw new IOException(reason);
            }
        }
    }

    /** Collectors answer in JSON, or not at all. Anything else is somebody in between: a login page, for instance. */
    private void checkContent(HttpResponse<?> response, byte[] answer, URI target) throws IOException {
        String type = response.headers().firstValue("Content-Type").orElse("").toLowerCase(Locale.ROOT);
        String media = type.contains(";") ? type.substring(0, type.indexOf(';')) : type;
        if (answer.length > 0 && !media.strip().endsWith("json")) {
            throw new IOException(name + " at " + shown(target) + " answered " + response.statusCode() + ", but with "
                    + (type.isEmpty() ? "content of no type" : SingleLine.of(type))
                    + " instead of JSON, so it was not the collector"
                    + quote(answer));
        }
    }

    private static String quote(byte[] body) {
        String text =
                SingleLine.of(new String(body, 0, Math.min(body.length, 4 * QUOTE), StandardCharsets.UTF_8).strip());
        return text.isEmpty() ? "" : ": " + (text.length() > QUOTE ? text.substring(0, QUOTE) + "…" : text);
    }

    /** Seconds or a date; {@code null} if there is neither. */
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
