package io.batchpersistence.spring.actuate;

import io.batchpersistence.FailedAttempt;
import io.batchpersistence.FailureGroup;
import io.batchpersistence.LogEntry;
import io.batchpersistence.spring.operator.BatchOperator;
import io.batchpersistence.spring.operator.BatchOperator.Summary;
import io.batchpersistence.spring.operator.Conditions;
import io.batchpersistence.spring.operator.OperatorRequestException;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.springframework.aot.hint.annotation.RegisterReflectionForBinding;
import org.springframework.boot.actuate.endpoint.Access;
import org.springframework.boot.actuate.endpoint.SecurityContext;
import org.springframework.boot.actuate.endpoint.Show;
import org.springframework.boot.actuate.endpoint.annotation.Endpoint;
import org.springframework.boot.actuate.endpoint.annotation.ReadOperation;
import org.springframework.boot.actuate.endpoint.annotation.Selector;
import org.springframework.boot.actuate.endpoint.annotation.WriteOperation;
import org.springframework.boot.actuate.endpoint.web.WebEndpointResponse;

/**
 * The actuator endpoint {@code batchpersistence}: a {@link BatchOperator} for HTTP and JMX. What can't be answered is a {@link
 * WebEndpointResponse} with status 400 or 404 and a {@link Problem}. Thread-safe.
 */
@Endpoint(id = "batchpersistence", defaultAccess = Access.READ_ONLY)
@RegisterReflectionForBinding({
    BatchOperator.Batches.class,
    BatchOperator.Batch.class,
    BatchOperator.Reasons.class,
    FailureGroup.class,
    BatchOperator.Detail.class,
    FailedAttempt.class,
    LogEntry.class,
    BatchOperator.Result.class,
    BatchPersistenceEndpoint.Problem.class
})
public final class BatchPersistenceEndpoint {

    private final BatchOperator operator;
    private final Show showEntries;
    private final Set<String> roles;

    /**
     * Shows one.
     *
     * @param operator answers
     * @param showEntries who sees what is in a batch
     * @param roles of which he needs one, where {@code showEntries} is {@link Show#WHEN_AUTHORIZED}; empty: none
     */
    public BatchPersistenceEndpoint(BatchOperator operator, Show showEntries, Collection<String> roles) {
        this.operator = operator;
        this.showEntries = showEntries;
        this.roles = Set.copyOf(roles);
    }

    /**
     * {@code GET /actuator/batchpersistence}.
     *
     * @return the numbers
     */
    @ReadOperation
    public Summary summary() {
        return operator.summary();
    }

    /**
     * {@code GET /actuator/batchpersistence/{view}}. For the parameters see {@link Conditions}; one {@code id} and one {@code
     * collectorType} at most: a list of them would be split at commas, which may be in them.
     *
     * @param securityContext who asks
     * @param view {@code batches}: a page of a list; {@code reasons}: what batches have failed of; {@code batch}: the one with
     *     that id
     * @return {@link BatchOperator.Batches}, {@link BatchOperator.Reasons} or {@link BatchOperator.Detail}
     */
    @ReadOperation
    public Object view(
            SecurityContext securityContext,
            @Selector String view,
            @Nullable String id,
            @Nullable String collectorType,
            @Nullable List<String> state,
            @Nullable String failureReason,
            @Nullable String olderThan,
            @Nullable String youngerThan,
            @Nullable String minRetries,
            @Nullable String maxRetries,
            @Nullable String limit,
            @Nullable String order,
            @Nullable String after) {
        Conditions conditions = conditions(
                        id, collectorType, state, failureReason, olderThan, youngerThan, minRetries, maxRetries)
                .with("limit", limit)
                .with("order", order)
                .with("after", after);
        return answered(() -> switch (view) {
            case "batches" -> operator.batches(conditions);
            case "reasons" -> operator.reasons(conditions);
            case "batch" -> operator.batch(id, showEntries.isShown(securityContext, roles));
            default ->
                new WebEndpointResponse<>(
                        new Problem("there is no such view; there are batches, reasons and batch"),
                        WebEndpointResponse.STATUS_NOT_FOUND);
        });
    }

    /**
     * {@code POST /actuator/batchpersistence/{operation}}, with the parameters in a JSON object without arrays (of states with
     * commas between). For them see {@link #view}.
     *
     * @param operation see {@link BatchOperator#operate}
     * @param dryRun {@code true}: only say how many batches it would be done with
     * @param perSecond for {@code replay}: how many become due a second
     * @return {@link BatchOperator.Result}
     */
    @WriteOperation
    public Object operate(
            @Selector String operation,
            @Nullable String id,
            @Nullable String collectorType,
            @Nullable List<String> state,
            @Nullable String failureReason,
            @Nullable String olderThan,
            @Nullable String youngerThan,
            @Nullable String minRetries,
            @Nullable String maxRetries,
            @Nullable String limit,
            @Nullable String order,
            @Nullable Boolean dryRun,
            @Nullable Double perSecond) {
        Conditions conditions = conditions(
                        id, collectorType, state, failureReason, olderThan, youngerThan, minRetries, maxRetries)
                .with("limit", limit)
                .with("order", order);
        return answered(() -> operator.operate(operation, conditions, Boolean.TRUE.equals(dryRun), perSecond));
    }

    private static Conditions conditions(
            @Nullable String id,
            @Nullable String collectorType,
            @Nullable List<String> state,
            @Nullable String failureReason,
            @Nullable String olderThan,
            @Nullable String youngerThan,
            @Nullable String minRetries,
            @Nullable String maxRetries) {
        return Conditions.NONE
                .with("id", id)
                .with("collectorType", collectorType)
                .with("state", state)
                .with("failureReason", failureReason)
                .with("olderThan", olderThan)
                .with("youngerThan", youngerThan)
                .with("minRetries", minRetries)
                .with("maxRetries", maxRetries);
    }

    private static Object answered(Supplier<Object> question) {
        try {
            return question.get();
        } catch (OperatorRequestException e) {
            return new WebEndpointResponse<>(
                    new Problem(String.valueOf(e.getMessage())), e.reason().status());
        }
    }

    /**
     * Why there is no answer.
     *
     * @param message says what to change
     */
    public record Problem(String message) {}
}
