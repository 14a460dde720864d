package io.batchpersistence.spring.autoconfigure;

import org.springframework.boot.autoconfigure.condition.ConditionMessage;
import org.springframework.boot.autoconfigure.condition.ConditionOutcome;
import org.springframework.boot.autoconfigure.condition.SpringBootCondition;
import org.springframework.boot.context.properties.bind.Binder;
import org.springframework.context.annotation.ConditionContext;
import org.springframework.core.type.AnnotatedTypeMetadata;

/**
 * Matches if {@code batch_persistence.enabled} is true. Reads the value the same way as the binding of the properties
 * ("off" is false, "ture" fails the start-up): a batch must not remain unpersisted because two places interpret a word
 * differently.
 */
class OnBatchPersistenceEnabled extends SpringBootCondition {

    /** Matches if batch persistence is disabled. */
    static final class Not extends OnBatchPersistenceEnabled {
        @Override
        public ConditionOutcome getMatchOutcome(ConditionContext context, AnnotatedTypeMetadata metadata) {
            ConditionOutcome enabled = super.getMatchOutcome(context, metadata);
            return new ConditionOutcome(!enabled.isMatch(), enabled.getConditionMessage());
        }
    }

    @Override
    public ConditionOutcome getMatchOutcome(ConditionContext context, AnnotatedTypeMetadata metadata) {
        return flag("enabled", true, context);
    }

    /** Reads a key below {@code batch_persistence}. */
    static ConditionOutcome flag(String key, boolean absent, ConditionContext context) {
        boolean enabled = Binder.get(context.getEnvironment())
                .bind("batch-persistence." + key, Boolean.class)
                .orElse(absent);
        return new ConditionOutcome(
                enabled,
                ConditionMessage.forCondition("batch_persistence." + key).because("is " + enabled));
    }
}
