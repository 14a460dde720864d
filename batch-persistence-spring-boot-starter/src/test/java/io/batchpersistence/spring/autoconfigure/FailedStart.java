package io.batchpersistence.spring.autoconfigure;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.springframework.beans.factory.BeanFactory;
import org.springframework.beans.factory.support.DefaultListableBeanFactory;
import org.springframework.boot.diagnostics.FailureAnalysis;
import org.springframework.boot.diagnostics.FailureAnalyzer;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;
import org.springframework.core.env.Environment;
import org.springframework.core.env.StandardEnvironment;
import org.springframework.core.io.support.SpringFactoriesLoader;
import org.springframework.core.io.support.SpringFactoriesLoader.ArgumentResolver;
import org.springframework.core.io.support.SpringFactoriesLoader.FailureHandler;

/** What Spring Boot says of an application that does not start. */
final class FailedStart {

    /** Like SpringApplication, which leaves out analyzers whose classes are missing. */
    private static final FailureHandler UNLESS_IT_MISSES_CLASSES =
            FailureHandler.handleMessage((message, failure) -> {});

    private FailedStart() {}

    /** Starts an application, which must fail. */
    static FailureAnalysis of(ApplicationContextRunner runner) {
        // A context that failed to start doesn't expose its own.
        AtomicReference<Environment> environment = new AtomicReference<>(new StandardEnvironment());
        AtomicReference<FailureAnalysis> analysis = new AtomicReference<>();
        runner.withInitializer(context -> environment.set(context.getEnvironment()))
                .run(context -> analysis.set(analysis(context.getStartupFailure(), environment.get())));
        return analysis.get();
    }

    /** Like SpringApplication: the first analyzer that knows the failure wins. */
    static FailureAnalysis analysis(@Nullable Throwable failure, Environment environment) {
        assertThat(failure).isNotNull();
        ArgumentResolver arguments = ArgumentResolver.of(BeanFactory.class, new DefaultListableBeanFactory())
                .and(Environment.class, environment);
        return SpringFactoriesLoader.forDefaultResourceLocation()
                .load(FailureAnalyzer.class, arguments, UNLESS_IT_MISSES_CLASSES)
                .stream()
                .map(analyzer -> analyzer.analyze(failure))
                .filter(Objects::nonNull)
                .findFirst()
                .orElseThrow(() -> new AssertionError("no one explains it", failure));
    }
}
