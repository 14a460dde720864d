package io.batchpersistence.sample;

import io.batchpersistence.BatchSender;
import io.batchpersistence.LogEntry;
import io.batchpersistence.PermanentDeliveryException;
import io.batchpersistence.PersistedBatch;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * Creates one document per entry through {@code _bulk}, which returns a result for each of them. The document's id is
 * derived from the batch id, the number of the entry and its message, so that an entry that is sent again conflicts
 * with the existing document (409, treated as success) instead of duplicating it. Thread-safe.
 *
 * <p>If any document was refused temporarily (429, 5xx), the batch is retried. If all refused documents were refused
 * permanently, for instance because of the mapping, the batch becomes a dead letter; its other documents have arrived.
 */
final class ElasticsearchSender implements BatchSender {

    private static final int CONFLICT = 409;

    private final CollectorClient client;
    private final String index;
    private final JsonMapper json = JsonMapper.shared();

    ElasticsearchSender(CollectorClient client, String index) {
        this.client = client;
        this.index = index;
    }

    @Override
    public void send(PersistedBatch batch) throws IOException, InterruptedException {
        byte[] answer = client.post("/_bulk", "application/x-ndjson", body(batch));
        JsonNode items;
        try {
            JsonNode root = json.readTree(answer);
            if (root.path("errors").isBoolean() && !root.path("errors").asBoolean()) {
                return;
            }
            items = root.path("items");
        } catch (JacksonException e) {
            throw new IOException("elasticsearch answered 200, but not with JSON: " + e.getOriginalMessage(), e);
        }
        if (items.size() != batch.entries().size()) {
            throw new IOException("elasticsearch answered for " + items.size() + " of "
                    + batch.entries().size() + " documents");
        }
        judge(items);
    }

    private static void judge(JsonNode items) throws IOException {
        int transientOnes = 0;
        int permanentOnes = 0;
        String firstTransient = "";
        String firstPermanent = "";
        for (int i = 0; i < items.size(); i++) {
            JsonNode result = items.get(i).path("create");
            int status = result.path("status").asInt(0);
            if (status / 100 == 2 || status == CONFLICT) {
                continue;
            }
            String reason = "entry " + (i + 1) + ": " + status + " "
                    + result.path("error").path("type").asString("")
                    + " " + result.path("error").path("reason").asString("");
            boolean permanent = status / 100 == 4
                    && status != 401
                    && status != 403
                    && status != 404
                    && status != 408
                    && status != 429;
            if (permanent && permanentOnes++ == 0) {
                firstPermanent = reason;
            } else if (!permanent && transientOnes++ == 0) {
                firstTransient = reason;
            }
        }
        if (transientOnes > 0) {
            throw new IOException("elasticsearch did not take " + transientOnes + " of " + items.size()
                    + " documents now; " + firstTransient);
        }
        if (permanentOnes > 0) {
            throw new PermanentDeliveryException("elasticsearch refused " + permanentOnes + " of " + items.size()
                    + " documents for good and has the others; " + firstPermanent);
        }
    }

    private byte[] body(PersistedBatch batch) {
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        int number = 0;
        for (LogEntry entry : batch.entries()) {
            Map<String, String> target = Map.of("_index", index, "_id", id(batch.id(), number++, entry.message()));
            body.writeBytes(json.writeValueAsBytes(Map.of("create", target)));
            body.write('\n');
            body.writeBytes(json.writeValueAsBytes(document(entry, batch.id())));
            body.write('\n');
        }
        return body.toByteArray();
    }

    /** Uses the field names of the Elastic Common Schema where they exist. */
    private static Map<String, @Nullable Object> document(LogEntry entry, String batchId) {
        Map<String, @Nullable Object> document = new LinkedHashMap<>();
        document.put("@timestamp", entry.timestamp().toString());
        document.put("message", entry.message());
        putIfThere(document, "log.level", entry.level());
        if (!entry.labels().isEmpty()) {
            document.put("labels", entry.labels());
        }
        if (!entry.fields().isEmpty()) {
            document.put("fields", entry.fields());
        }
        putIfThere(document, "trace.id", entry.traceId());
        putIfThere(document, "span.id", entry.spanId());
        putIfThere(document, "source_type", entry.sourceType());
        putIfThere(document, "source_id", entry.sourceId());
        document.put("batch_id", batchId);
        return document;
    }

    private static void putIfThere(Map<String, @Nullable Object> document, String name, @Nullable String value) {
        if (value != null) {
            document.put(name, value);
        }
    }

    /**
     * Short enough for any batch id (512 bytes are allowed). Includes the message: a batch id that is used again must
     * not hide a line.
     */
    static String id(String batchId, int number, String message) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update((batchId + "\n" + number + "\n" + message).getBytes(StandardCharsets.UTF_8));
            return Base64.getUrlEncoder().withoutPadding().encodeToString(Arrays.copyOf(digest.digest(), 18));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java platform has SHA-256", e);
        }
    }
}
