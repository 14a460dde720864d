package io.batchpersistence.jdbc;

import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAnyPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;

import com.tngtech.archunit.base.DescribedPredicate;
import io.batchpersistence.ArchitectureTest;
import org.junit.jupiter.api.Test;

/** The rules of the core, and what this module uses of it. */
class JdbcArchitectureTest extends ArchitectureTest {

    @Test
    void of_the_internals_of_the_core_only_the_named_ones_are_used() {
        noClasses()
                .that()
                .resideInAPackage("io.batchpersistence.jdbc")
                .should()
                .dependOnClassesThat(resideInAPackage("io.batchpersistence.internal..")
                        .and(DescribedPredicate.not(resideInAnyPackage(
                                "io.batchpersistence.internal.spi",
                                "io.batchpersistence.internal.log",
                                "io.batchpersistence.internal.codec"))))
                .orShould()
                .dependOnClassesThat()
                .resideInAPackage("io.batchpersistence.engine..")
                .check(CLASSES);
    }

    @Test
    void the_core_has_no_jdbc_types() {
        noClasses()
                .that()
                .resideOutsideOfPackages("io.batchpersistence.jdbc")
                .should()
                .dependOnClassesThat()
                .resideInAnyPackage("java.sql..", "javax.sql..", "io.batchpersistence.jdbc")
                .check(CLASSES);
    }
}
