package io.batchpersistence.internal.codec;

import static org.assertj.core.api.Assertions.assertThat;

import io.batchpersistence.LogEntry;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Random batches, plain and unusual ones. The same seed gives the same batches. */
final class RandomEntries {

    private static final String[] ODD_TEXTS = {
        "",
        " ",
        "0",
        "007",
        "000",
        "a0",
        "/var/log/x.log:1042",
        "/var/log/x.log:",
        "/var/log/x.log:007",
        "x-1",
        "x:999999999999999999",
        "x:1000000000000000000",
        "x:9223372036854775807",
        "x:9223372036854775808",
        "x:000000000000000000000000000000000001",
        "x:123456789012345678901234567890",
        // Digits, but not ASCII digits.
        "٣٤",
        "null",
        "$numberDecimal",
        "$$numberDecimal",
        "\u0000\u0001\u001f\u007f\u0085\u2028\ufeff\ufffd\uffff",
        "line\r\nbreak\t\"quoted\" \\ </script>",
        "äöü ß 漢字 😀👩‍👩‍👧 é",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "4BF92F3577B34DA6A3CE929D0E0E4736",
        "00000000000000000000000000000000",
        "00f067aa0ba902b7",
        "00f067aa0ba902bg",
        "x".repeat(1023) + "12",
        "y".repeat(5000) + "1",
    };

    private final Random random;

    RandomEntries(long seed) {
        random = new Random(seed);
    }

    List<LogEntry> batch() {
        boolean odd = random.nextBoolean();
        int count = random.nextInt(8) == 0 ? 1 : 1 + random.nextInt(40);
        boolean[] absent = new boolean[6];
        for (int i = 0; i < absent.length; i++) {
            absent[i] = random.nextBoolean();
        }
        Map<String, String> commonLabels = Map.of("app", "shop", "host", "web-1");
        long nanos = 1_767_225_600_000_000_000L + random.nextInt(1_000_000_000);
        long step = new long[] {1, 1_000, 1_000_000, 1_000_000_000, 60_000_000_000L}[random.nextInt(5)];
        nanos -= nanos % step;
        int line = random.nextInt(10_000);
        List<LogEntry> entries = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            nanos += (random.nextInt(100) - 5) * step;
            LogEntry.Builder entry = LogEntry.builder(odd ? oddTimestamp() : at(nanos), text(odd));
            if (!absent[0]) {
                entry.level(random.nextInt(10) == 0 ? null : odd ? text(true) : random.nextBoolean() ? "INFO" : "WARN");
            }
            if (!absent[1]) {
                if (odd && random.nextInt(3) == 0) {
                    for (int k = random.nextInt(4); k > 0; k--) {
                        entry.label(text(true), text(true));
                    }
                } else {
                    entry.labels(commonLabels);
                }
            }
            if (!absent[2]) {
                entry.fields(odd ? object(0) : Map.of("status", 200 + random.nextInt(3), "path", "/p"));
            }
            entry.source(
                    absent[3] || random.nextInt(10) == 0 ? null : odd ? text(true) : "file",
                    absent[3] || random.nextInt(10) == 0
                            ? null
                            : odd ? text(true) : "/var/log/" + i % 3 + ".log:" + line++);
            entry.trace(
                    absent[4] ? null : odd ? nullOr(text(true)) : hex(16),
                    absent[5] ? null : odd ? nullOr(text(true)) : hex(8));
            entries.add(entry.build());
        }
        return entries;
    }

    private static Instant at(long nanos) {
        return Instant.ofEpochSecond(0, nanos);
    }

    private Instant oddTimestamp() {
        return switch (random.nextInt(6)) {
            case 0 -> at(Long.MIN_VALUE);
            case 1 -> at(Long.MAX_VALUE);
            case 2 -> at(random.nextLong());
            case 3 -> Instant.EPOCH;
            case 4 -> at(-1);
            default -> at(random.nextInt() * 1_000_000_000L);
        };
    }

    private String nullOr(String text) {
        return random.nextInt(4) == 0 ? null : text;
    }

    private String hex(int bytes) {
        StringBuilder hex = new StringBuilder();
        for (int i = 0; i < bytes; i++) {
            hex.append(String.format("%02x", random.nextInt(256)));
        }
        return hex.toString();
    }

    private String text(boolean odd) {
        if (odd && random.nextBoolean()) {
            return ODD_TEXTS[random.nextInt(ODD_TEXTS.length)];
        }
        if (!odd) {
            return "GET /cart/" + random.nextInt(1000) + " took " + random.nextInt(500) + " ms";
        }
        StringBuilder text = new StringBuilder();
        for (int i = random.nextInt(200); i > 0; i--) {
            // Includes unpaired surrogates, which LogEntry replaces.
            text.append((char) (random.nextBoolean() ? random.nextInt(128) : random.nextInt(0x10000)));
        }
        return text.toString();
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> object = new LinkedHashMap<>();
        for (int i = random.nextInt(4); i > 0; i--) {
            object.put(random.nextBoolean() ? text(true) : "k" + random.nextInt(3), value(depth + 1));
        }
        return object;
    }

    private Object value(int depth) {
        return switch (random.nextInt(depth > 4 ? 12 : 14)) {
            case 0 -> null;
            case 1 -> random.nextBoolean();
            case 2 -> random.nextLong();
            case 3 -> (long) random.nextInt(10) - 5;
            case 4 -> new long[] {Long.MIN_VALUE, Long.MAX_VALUE, 0}[random.nextInt(3)];
            case 5 ->
                new double[] {-0.0, 0.0, 1, 1e10, Double.MIN_VALUE, Double.MAX_VALUE, 0.1, 2e-3}[random.nextInt(8)];
            case 6 -> random.nextGaussian() * Math.pow(10, random.nextInt(600) - 300);
            case 7 -> new BigInteger(200, random).negate();
            case 8 -> BigInteger.TWO.pow(63).multiply(BigInteger.TEN.pow(random.nextInt(50)));
            case 9 -> new BigDecimal(new BigInteger(random.nextInt(100), random), random.nextInt(80) - 40);
            case 10 ->
                new BigDecimal(List.of(
                                "1.50",
                                "0",
                                "0.000",
                                "-0.00",
                                "150",
                                "1E+3",
                                "1E-400",
                                "1E+2147483647",
                                "12E-2147483647")
                        .get(random.nextInt(9)));
            case 11 -> text(true);
            case 12 -> object(depth);
            default -> {
                List<Object> list = new ArrayList<>();
                for (int i = random.nextInt(4); i > 0; i--) {
                    list.add(value(depth + 1));
                }
                yield list;
            }
        };
    }

    /** Compares values and order. Map equality ignores order. */
    static void assertSame(List<LogEntry> actual, List<LogEntry> expected) {
        assertThat(actual).isEqualTo(expected);
        assertThat(actual.toString()).isEqualTo(expected.toString());
    }

    /** One of everything, for byte comparisons. */
    static List<LogEntry> oneOfEverything() {
        Map<String, Object> order = new LinkedHashMap<>();
        order.put("id", 7L);
        order.put("price", new BigDecimal("1.50"));
        order.put("huge", BigInteger.TWO.pow(64));
        order.put("ratio", -0.0);
        order.put("paid", true);
        order.put("note", null);
        order.put("tags", List.of("a", List.of(), Map.of()));
        Instant start = Instant.parse("2026-01-02T03:04:05.678901234Z");
        return List.of(
                LogEntry.builder(start, "größer 😀")
                        .level("INFO")
                        .label("app", "shop")
                        .label("host", "web-1")
                        .field("order", order)
                        .source("file", "/var/log/shop.log:1042")
                        .trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
                        .build(),
                LogEntry.builder(start.plusMillis(12), "")
                        .level("WARN")
                        .label("app", "shop")
                        .label("host", "web-1")
                        .field("order", order)
                        .source("file", "/var/log/shop.log:1043")
                        .trace("4bf92f3577b34da6a3ce929d0e0e4736", "")
                        .build(),
                LogEntry.builder(start.minusMillis(3), "bare")
                        .source(null, "a007")
                        .build(),
                LogEntry.builder(start.minusMillis(3), "last")
                        .level("")
                        .source("", "")
                        .build());
    }
}
