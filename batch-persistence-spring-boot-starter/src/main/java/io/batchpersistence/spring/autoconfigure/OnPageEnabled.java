package io.batchpersistence.spring.autoconfigure;

import org.springframework.boot.autoconfigure.condition.ConditionOutcome;
import org.springframework.boot.autoconfigure.condition.SpringBootCondition;
import org.springframework.context.annotation.ConditionContext;
import org.springframework.core.type.AnnotatedTypeMetadata;

/**
 * Matches if {@code batch_persistence.ui.enabled} is true. Reads the value the same way as the binding of the
 * properties.
 */
final class OnPageEnabled extends SpringBootCondition {

    @Override
    public ConditionOutcome getMatchOutcome(ConditionContext context, AnnotatedTypeMetadata metadata) {
        return OnBatchPersistenceEnabled.flag("ui.enabled", false, context);
    }
}
