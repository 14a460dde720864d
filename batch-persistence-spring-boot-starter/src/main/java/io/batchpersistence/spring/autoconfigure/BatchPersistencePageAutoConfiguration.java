package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchPersistence;
import io.batchpersistence.spring.operator.BatchOperator;
import io.batchpersistence.spring.ui.BacklogHistory;
import io.batchpersistence.spring.ui.OperatorPage;
import jakarta.servlet.http.HttpServletRequest;
import java.time.Clock;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnWebApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Conditional;
import org.springframework.context.annotation.ImportRuntimeHints;
import org.springframework.core.env.Environment;
import org.springframework.web.servlet.DispatcherServlet;
import org.springframework.web.servlet.function.RouterFunction;
import org.springframework.web.servlet.function.ServerResponse;

/** The operators' page, if it is enabled, in applications with Spring MVC. */
@AutoConfiguration(after = BatchPersistenceAutoConfiguration.class)
@ConditionalOnWebApplication(type = ConditionalOnWebApplication.Type.SERVLET)
@ConditionalOnClass(DispatcherServlet.class)
@Conditional({OnBatchPersistenceEnabled.class, OnPageEnabled.class})
@ConditionalOnBean(BatchOperator.class)
@ImportRuntimeHints(OperatorPage.Hints.class)
public final class BatchPersistencePageAutoConfiguration {

    /** For Spring. */
    BatchPersistencePageAutoConfiguration() {}

    @Bean
    @ConditionalOnMissingBean
    BacklogHistory batchPersistenceBacklogHistory(BatchPersistence persistence, ObjectProvider<Clock> clock) {
        return new BacklogHistory(persistence, clock.getIfUnique(Clock::systemUTC));
    }

    @Bean
    @ConditionalOnMissingBean(name = "batchPersistenceBacklogSampling")
    BatchPersistenceTasks.AfterRecovery batchPersistenceBacklogSampling(BacklogHistory history) {
        return history::sample;
    }

    @Bean
    @ConditionalOnMissingBean(name = "batchPersistencePage")
    RouterFunction<ServerResponse> batchPersistencePage(
            BatchOperator operator,
            BacklogHistory history,
            BatchPersistenceProperties properties,
            Environment environment) {
        return new OperatorPage(
                        operator,
                        history,
                        properties.ui().path(),
                        properties.ui().access() == BatchPersistenceProperties.Ui.Access.READ_ONLY,
                        request -> maySeeEntries(request, properties.endpoint()),
                        environment.getProperty("spring.application.name"))
                .routes();
    }

    /** The same rule as for the endpoint. */
    private static boolean maySeeEntries(HttpServletRequest request, BatchPersistenceProperties.Endpoint endpoint) {
        return switch (endpoint.showEntries()) {
            case NEVER -> false;
            case WHEN_AUTHORIZED ->
                request.getUserPrincipal() != null
                        && (endpoint.roles().isEmpty()
                                || endpoint.roles().stream().anyMatch(request::isUserInRole));
            case ALWAYS -> true;
        };
    }
}
