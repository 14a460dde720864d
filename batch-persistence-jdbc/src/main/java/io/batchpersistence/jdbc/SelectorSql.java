package io.batchpersistence.jdbc;

import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * A selector as a condition in SQL: its conditions without its ids, and the condition that only Java can check: whether a failure reason
 * matches.
 */
final class SelectorSql {

    final StringBuilder sql = new StringBuilder("1 = 1");
    final List<@Nullable Object> values = new ArrayList<>();
    final @Nullable Predicate<String> reason;

    SelectorSql(BatchSelector selector) {
        reason = selector.failureReasonMatcher();
        if (reason != null) {
            sql.append(" AND reason IS NOT NULL");
        }
        if (!selector.states().isEmpty()) {
            // As literals: an index on some states only is not used for a parameter, whose value is not known when
            // the statement is planned.
            sql.append(" AND state IN (")
                    .append(selector.states().stream()
                            .map(state -> String.valueOf(Row.number(state)))
                            .sorted()
                            .collect(Collectors.joining(", ")))
                    .append(')');
        }
        if (!selector.collectorTypes().isEmpty()) {
            in(
                    "collector_type",
                    selector.collectorTypes().stream().map(TextEscaping::escape).toList());
        }
        if (selector.olderThan() != null) {
            and("created_at <= {now} - ?", Database.between(Instant.EPOCH, after(selector.olderThan())));
        }
        if (selector.youngerThan() != null) {
            and("created_at > {now} - ?", Database.between(Instant.EPOCH, after(selector.youngerThan())));
        }
        if (selector.minRetries() > 0) {
            and("retry_count >= ?", selector.minRetries());
        }
        if (selector.maxRetries() < Integer.MAX_VALUE) {
            and("retry_count <= ?", selector.maxRetries());
        }
        Long position = selector.after();
        if (position != null) {
            behind(selector.order(), position);
        }
    }

    private SelectorSql(SelectorSql others) {
        sql.append(others.sql, sql.length(), others.sql.length());
        values.addAll(others.values);
        reason = others.reason;
    }

    private static Instant after(Duration age) {
        return age.compareTo(Duration.ofDays(1_000_000)) > 0 ? Instant.MAX : Instant.EPOCH.plus(age);
    }

    SelectorSql copy() {
        return new SelectorSql(this);
    }

    SelectorSql in(String column, List<?> some) {
        sql.append(" AND ").append(column).append(" IN ").append(Tx.in(some));
        values.addAll(some);
        return this;
    }

    SelectorSql behind(BatchOrder order, long seq) {
        return and(order == BatchOrder.OLDEST_FIRST ? "seq > ?" : "seq < ?", seq);
    }

    SelectorSql and(String condition, Object value) {
        sql.append(" AND ").append(condition);
        values.add(value);
        return this;
    }

    boolean matchesReason(@Nullable String text) {
        return reason == null || (text != null && reason.test(text));
    }

    /**
     * Splits the selector into one set of conditions per chunk of its ids, if there are any: a statement takes a
     * limited number of parameters.
     */
    static List<SelectorSql> parts(BatchSelector selector, int chunkSize) {
        SelectorSql all = new SelectorSql(selector);
        if (selector.ids().isEmpty()) {
            return List.of(all);
        }
        List<String> ids = selector.ids().stream().map(TextEscaping::escape).toList();
        List<SelectorSql> parts = new ArrayList<>();
        for (int from = 0; from < ids.size(); from += chunkSize) {
            parts.add(all.copy().in("batch_id", ids.subList(from, Math.min(from + chunkSize, ids.size()))));
        }
        return parts;
    }
}
