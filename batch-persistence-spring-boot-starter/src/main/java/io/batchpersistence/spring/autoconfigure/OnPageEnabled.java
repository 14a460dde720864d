package io.batchpersistence.spring.autoconfigure;

import org.springframework.boot.autoconfigure.condition.ConditionMessage;
import org.springframework.boot.autoconfigure.condition.ConditionOutcome;
import org.springframework.boot.autoconfigure.condition.SpringBootCondition;
import org.springframework.boot.context.properties.bind.Binder;
import org.springframework.context.annotation.ConditionContext;
import org.springframework.core.type.AnnotatedTypeMetadata;

/**
 * Matches if {@code batch_persistence.ui.enabled} is true. Reads the value the same way as the binding of the
 * properties.
 */
final class OnPageEnabled extends SpringBootCondition {

    @Override
    public ConditionOutcome getMatchOutcome(ConditionContext context, AnnotatedTypeMetadata metadata) {
        boolean enabled = Binder.get(context.getEnvironment())
                .bind("batch-persistence.ui.enabled", Boolean.class)
                .orElse(false);
        return new ConditionOutcome(
                enabled,
                ConditionMessage.forCondition("batch_persistence.ui.enabled").because("is " + enabled));
    }
}
