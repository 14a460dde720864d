package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.spring.autoconfigure.BatchPersistenceProperties.Store;
import org.springframework.boot.autoconfigure.condition.ConditionMessage;
import org.springframework.boot.autoconfigure.condition.ConditionOutcome;
import org.springframework.boot.context.properties.bind.Binder;
import org.springframework.context.annotation.ConditionContext;
import org.springframework.core.type.AnnotatedTypeMetadata;

/** Matches if batches are kept in a database. Reads the value the same way as the binding of the properties. */
final class OnJdbcStore extends OnBatchPersistenceEnabled {

    @Override
    public ConditionOutcome getMatchOutcome(ConditionContext context, AnnotatedTypeMetadata metadata) {
        ConditionOutcome enabled = super.getMatchOutcome(context, metadata);
        if (!enabled.isMatch()) {
            return enabled;
        }
        Store store = Binder.get(context.getEnvironment())
                .bind("batch-persistence.store", Store.class)
                .orElse(Store.SEGMENT);
        return new ConditionOutcome(
                store == Store.JDBC,
                ConditionMessage.forCondition("batch_persistence.store").because("is " + store));
    }
}
