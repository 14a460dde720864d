package io.batchpersistence.sample;

import io.batchpersistence.internal.log.LogSanitizer;
import io.batchpersistence.sample.BuiltInCollector.Mode;
import io.batchpersistence.sample.BuiltInCollector.Received;
import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpStatus;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.web.ErrorResponseException;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RestController;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * The parts of the Loki and Elasticsearch APIs that are needed to receive logs, at their original paths, and the
 * switches of the built-in collector. It can be told to fail the way real collectors do.
 */
@RestController
class BuiltInCollectorController {

    private static final Logger log = LogSanitizer.logger(BuiltInCollectorController.class);

    /** The maximum size of a request body in bytes: several times the largest batch of the shipper. */
    private static final int MAX_BODY = 64 << 20;

    private final BuiltInCollector collector;
    private final BuiltInCollectorProperties settings;
    private final Delay delay;
    private final JsonMapper json = JsonMapper.shared();

    /** How the mode {@code slow} waits. */
    @FunctionalInterface
    interface Delay {
        void pass(Duration duration) throws InterruptedException;
    }

    BuiltInCollectorController(BuiltInCollector collector, BuiltInCollectorProperties settings, Delay delay) {
        this.collector = collector;
        this.settings = settings;
        this.delay = delay;
    }

    @PostMapping("/collector/mode/{mode}")
    Map<String, String> mode(@PathVariable String mode) {
        try {
            collector.mode(Mode.of(mode));
        } catch (IllegalArgumentException e) {
            throw badRequest(String.valueOf(e.getMessage()), e);
        }
        log.info("the built-in collector is now {}", collector.mode().text());
        return mode();
    }

    @GetMapping("/collector/mode")
    Map<String, String> mode() {
        return Map.of("mode", collector.mode().text());
    }

    @GetMapping("/collector/stats")
    BuiltInCollector.Stats stats() {
        return collector.stats();
    }

    @PostMapping(path = "/loki/api/v1/push", consumes = MediaType.APPLICATION_JSON_VALUE)
    ResponseEntity<?> loki(HttpServletRequest request) throws IOException, InterruptedException {
        byte[] body = LimitedBody.read(request, MAX_BODY, "send less at a time");
        return asModeSays(() -> {
            collector.take(parsePush(body));
            return ResponseEntity.noContent().build();
        });
    }

    @PostMapping(
            path = {"/_bulk", "/{index}/_bulk"},
            consumes = {MediaType.APPLICATION_NDJSON_VALUE, MediaType.APPLICATION_JSON_VALUE})
    ResponseEntity<?> bulk(HttpServletRequest request) throws IOException, InterruptedException {
        byte[] body = LimitedBody.read(request, MAX_BODY, "send less at a time");
        return asModeSays(() -> {
            List<Received> received = parseBulk(body);
            List<Map<String, Object>> items = new ArrayList<>();
            boolean errors = false;
            Iterator<Received> each = received.iterator();
            for (boolean taken : collector.take(received)) {
                Map<String, Object> item = new LinkedHashMap<>();
                item.put("_id", String.valueOf(each.next().documentId()));
                item.put("status", taken ? 201 : 409);
                if (!taken) {
                    errors = true;
                    item.put(
                            "error",
                            Map.of(
                                    "type", "version_conflict_engine_exception",
                                    "reason", "document already exists"));
                }
                items.add(Map.of("create", item));
            }
            return ResponseEntity.ok(Map.of("took", 0, "errors", errors, "items", items));
        });
    }

    private ResponseEntity<?> asModeSays(Supplier<ResponseEntity<?>> up) throws InterruptedException {
        return switch (collector.mode()) {
            case UP -> up.get();
            case SLOW -> {
                delay.pass(settings.slowDelay());
                yield up.get();
            }
            case DOWN ->
                ResponseEntity.status(HttpStatus.SERVICE_UNAVAILABLE)
                        .body("the built-in collector was told to be down");
            case THROTTLE ->
                ResponseEntity.status(HttpStatus.TOO_MANY_REQUESTS)
                        .header(
                                HttpHeaders.RETRY_AFTER,
                                Long.toString(settings.retryAfter().toSeconds()))
                        .body("the built-in collector was told to throttle");
            case REJECT -> ResponseEntity.badRequest().body("the built-in collector was told to reject");
            case UNAUTHORIZED ->
                ResponseEntity.status(HttpStatus.UNAUTHORIZED)
                        .body("the built-in collector was told not to know the credentials");
        };
    }

    private List<Received> parsePush(byte[] body) {
        List<Received> received = new ArrayList<>();
        try {
            for (JsonNode stream : array(json.readTree(body), "streams")) {
                String level = text(stream.path("stream"), "level");
                for (JsonNode value : array(stream, "values")) {
                    if (!value.path(0).isString() || !value.path(1).isString()) {
                        throw badRequest(
                                "a value must be a list of a time in nanoseconds and a line, both texts", null);
                    }
                    JsonNode metadata = value.path(2);
                    received.add(new Received(
                            0,
                            "loki",
                            text(metadata, "batch_id"),
                            text(metadata, "source_id"),
                            null,
                            value.path(0).asString(),
                            level,
                            value.path(1).asString()));
                }
            }
        } catch (JacksonException e) {
            throw notJson(e);
        }
        return received;
    }

    private List<Received> parseBulk(byte[] body) {
        List<Received> received = new ArrayList<>();
        try (var values = json.readerFor(JsonNode.class).<JsonNode>readValues(body)) {
            while (values.hasNextValue()) {
                JsonNode action = values.nextValue();
                if (!action.has("create") || !values.hasNextValue()) {
                    throw badRequest("only 'create' is understood, each with a document on the next line", null);
                }
                JsonNode document = values.nextValue();
                String message = text(document, "message");
                if (message == null) {
                    throw badRequest("a document has no text 'message'", null);
                }
                received.add(new Received(
                        0,
                        "elasticsearch",
                        text(document, "batch_id"),
                        text(document, "source_id"),
                        text(action.path("create"), "_id"),
                        text(document, "@timestamp"),
                        text(document, "log.level"),
                        message));
            }
        } catch (JacksonException e) {
            throw notJson(e);
        }
        return received;
    }

    private static JsonNode array(JsonNode node, String name) {
        JsonNode array = node.path(name);
        if (!array.isArray()) {
            throw badRequest("'" + name + "' must be a list", null);
        }
        return array;
    }

    private static @Nullable String text(JsonNode node, String name) {
        JsonNode value = node.path(name);
        return value.isString() ? value.asString() : null;
    }

    private static ErrorResponseException badRequest(String detail, @Nullable Exception cause) {
        return LimitedBody.problem(HttpStatus.BAD_REQUEST, detail, cause);
    }

    /**
     * Does not quote the input: it may be a line of another application's log, and this message ends up in a log, too.
     */
    private static ErrorResponseException notJson(JacksonException e) {
        return badRequest("not valid JSON" + EntryParser.place(e), null);
    }
}
