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
 * The actuator endpoint {@code batchpersistence}: exposes a {@link BatchOperator} over HTTP and JMX. A request that
 * can't be answered gets a {@link WebEndpointResponse} with status 400 or 404 and a {@link Problem}. Thread-safe.
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
     * Creates an endpoint.
     *
     * @param operator answers the requests
     * @param showEntries who may see the content of a batch
     * @param roles the roles of which a user needs one if {@code showEntries} is {@link Show#WHEN_AUTHORIZED}; empty if
     *     no role is needed
     */
    public BatchPersistenceEndpoint(BatchOperator operator, Show showEntries, Collection<String> roles) {
        this.operator = operator;
        this.showEntries = showEntries;
        this.roles = Set.copyOf(roles);
    }

    /**
     * {@code GET /actuator/batchpersistence}.
     *
     * @return the summary
     */
    @ReadOperation
    public Summary summary() {
        return operator.summary();
    }

    /**
     * {@code GET /actuator/batchpersistence/{view}}. For the parameters see {@link Conditions}; at most one {@code id}
     * and one {@code collectorType}: a list would be split at commas, which these values may contain.
     *
     * @param securityContext the caller
     * @param view {@code batches}: a page of a list; {@code reasons}: the failure reasons of batches; {@code batch}:
     *     the batch with that id
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
     * {@code POST /actuator/batchpersistence/{operation}}, with the parameters in a JSON object without arrays (several
     * states are separated by commas). For the parameters see {@link #view}.
     *
     * @param operation one of the operations of {@link BatchOperator#operate}
     * @param dryRun {@code true} to only count the batches that the operation would affect
     * @param perSecond for {@code replay}: how many batches become due per second
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
     * The reason why a request was not answered.
     *
     * @param message what to change in the request
     */
    public record Problem(String message) {}
}
