package io.batchpersistence.sample;

import static io.batchpersistence.sample.LimitedBody.problem;

import io.batchpersistence.BatchPersistenceException;
import io.batchpersistence.DuplicateBatchException;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PersistedBatch;
import io.batchpersistence.sample.EntryParser.BadInputException;
import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import org.jspecify.annotations.Nullable;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpStatus;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.web.ErrorResponseException;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestHeader;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/**
 * Accepts lines over HTTP: {@code POST /logs}, {@code text/plain} or {@code application/x-ndjson}; one request becomes
 * one batch.
 *
 * <p>{@code 202} means that the batch is durable. The header {@code Idempotency-Key} sets its id: a request that is
 * repeated because its response was lost gets {@code 202} again while the batch is held, and {@code 422} if the content
 * differs.
 */
@RestController
class LogController {

    /** How long a client should wait after a batch was refused. */
    private static final String RETRY_AFTER_SECONDS = "5";

    private static final MediaType NDJSON = MediaType.parseMediaType("application/x-ndjson");

    private final Outbox outbox;
    private final EntryParser parser;
    private final ShipperStats stats;
    private final Set<String> collectors;
    private final String defaultCollector;
    private final int maxRequestBytes;

    LogController(
            Outbox outbox, EntryParser parser, ShipperStats stats, Set<String> collectors, ShipperProperties settings) {
        this.outbox = outbox;
        this.parser = parser;
        this.stats = stats;
        this.collectors = new TreeSet<>(collectors);
        this.defaultCollector = settings.collector();
        this.maxRequestBytes = Math.toIntExact(settings.maxRequestSize().toBytes());
    }

    /** The response. */
    record Accepted(String batchId, int entries) {}

    @PostMapping(
            path = "/logs",
            consumes = {MediaType.TEXT_PLAIN_VALUE, MediaType.APPLICATION_NDJSON_VALUE})
    ResponseEntity<Accepted> take(
            HttpServletRequest request,
            @RequestHeader(HttpHeaders.CONTENT_TYPE) MediaType contentType,
            @RequestParam(required = false) @Nullable String collector,
            @RequestHeader(name = "Idempotency-Key", required = false) @Nullable String idempotencyKey)
            throws IOException {
        String destination = collector == null ? defaultCollector : collector;
        if (!collectors.contains(destination)) {
            throw problem(
                    HttpStatus.BAD_REQUEST,
                    "there is no collector '" + destination + "'; there are " + collectors,
                    null);
        }
        String encoding = request.getHeader(HttpHeaders.CONTENT_ENCODING);
        if (encoding != null && !encoding.equalsIgnoreCase("identity")) {
            throw problem(
                    HttpStatus.UNSUPPORTED_MEDIA_TYPE,
                    "Content-Encoding '" + encoding + "' is not understood: send the body as it is",
                    null);
        }
        String batchId = idempotencyKey == null ? UUID.randomUUID().toString() : idempotencyKey;
        List<LogEntry> entries = entries(body(request, contentType), contentType, batchId);
        persist(batchId, entries, destination);
        return ResponseEntity.accepted().body(new Accepted(batchId, entries.size()));
    }

    private String body(HttpServletRequest request, MediaType contentType) throws IOException {
        byte[] bytes =
                LimitedBody.read(request, maxRequestBytes, "send less at a time, or raise shipper.max_request_size");
        Charset charset = contentType.getCharset();
        return new String(bytes, charset == null ? StandardCharsets.UTF_8 : charset);
    }

    private List<LogEntry> entries(String body, MediaType contentType, String batchId) {
        List<LogEntry> entries;
        try {
            entries = NDJSON.isCompatibleWith(contentType)
                    ? parser.parseNdjson(body, batchId)
                    : parser.parseText(body, batchId);
        } catch (BadInputException e) {
            throw problem(HttpStatus.BAD_REQUEST, String.valueOf(e.getMessage()), e);
        }
        if (entries.isEmpty()) {
            throw problem(
                    HttpStatus.BAD_REQUEST, "the body has no entries: send at least one line that is not empty", null);
        }
        return entries;
    }

    private void persist(String batchId, List<LogEntry> entries, String collector) {
        try {
            outbox.ship(batchId, entries, collector, Map.of());
            stats.batches.incrementAndGet();
            stats.entries.addAndGet(entries.size());
        } catch (DuplicateBatchException e) {
            Optional<PersistedBatch> held = outbox.find(batchId);
            if (held.isEmpty()) {
                throw unavailable("the batch was delivered a moment ago; ask again", e);
            }
            if (!messages(held.get().entries()).equals(messages(entries))) {
                throw problem(
                        HttpStatus.UNPROCESSABLE_CONTENT,
                        "the Idempotency-Key '" + batchId + "' stands for other content that was taken before",
                        e);
            }
        } catch (BatchPersistenceException e) {
            stats.refusals.incrementAndGet();
            throw unavailable(String.valueOf(e.getMessage()), e);
        } catch (IllegalArgumentException e) {
            throw problem(HttpStatus.BAD_REQUEST, String.valueOf(e.getMessage()), e);
        }
    }

    private static List<String> messages(List<LogEntry> entries) {
        return entries.stream().map(LogEntry::message).toList();
    }

    private static ErrorResponseException unavailable(String detail, Exception cause) {
        ErrorResponseException problem = problem(HttpStatus.SERVICE_UNAVAILABLE, detail, cause);
        problem.getHeaders().set(HttpHeaders.RETRY_AFTER, RETRY_AFTER_SECONDS);
        return problem;
    }
}
