package io.batchpersistence.spring.autoconfigure;

import org.jspecify.annotations.Nullable;
import org.springframework.boot.context.properties.source.ConfigurationProperty;
import org.springframework.boot.context.properties.source.ConfigurationPropertyName;
import org.springframework.boot.context.properties.source.ConfigurationPropertySource;
import org.springframework.boot.context.properties.source.ConfigurationPropertySources;
import org.springframework.boot.diagnostics.FailureAnalysis;
import org.springframework.boot.diagnostics.FailureAnalyzer;
import org.springframework.core.Ordered;
import org.springframework.core.annotation.Order;
import org.springframework.core.env.Environment;

/** Turns every {@link StartUpFailure} into a description and an action. Boot itself explains values of a wrong type. */
// Before Boot's analyzer of binding failures, which would hide the action.
@Order(Ordered.HIGHEST_PRECEDENCE)
final class BatchPersistenceFailureAnalyzer implements FailureAnalyzer {

    private final Environment environment;

    private static final int MAX_DEPTH = 1_000;

    BatchPersistenceFailureAnalyzer(Environment environment) {
        this.environment = environment;
    }

    @Override
    public @Nullable FailureAnalysis analyze(Throwable failure) {
        Throwable cause = failure;
        // Limited, because the chain of causes may be a cycle.
        for (int depth = 0; cause != null && depth < MAX_DEPTH; depth++) {
            if (cause instanceof StartUpFailure known) {
                String origin = cause instanceof InvalidSettingException invalid ? origin(invalid.key()) : "";
                return new FailureAnalysis(cause.getMessage() + origin, known.action(), failure);
            }
            cause = cause.getCause();
        }
        return null;
    }

    private String origin(String key) {
        ConfigurationPropertyName name =
                ConfigurationPropertyName.adapt("batch-persistence." + key.replace('_', '-'), '.');
        for (ConfigurationPropertySource source : ConfigurationPropertySources.get(environment)) {
            ConfigurationProperty property = source.getConfigurationProperty(name);
            if (property != null && property.getOrigin() != null) {
                return System.lineSeparator() + System.lineSeparator() + "It is set in " + property.getOrigin() + ".";
            }
        }
        return "";
    }
}
