package io.batchpersistence.spring;

import static com.tngtech.archunit.base.DescribedPredicate.not;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;

import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import org.junit.jupiter.api.Test;

class ArchitectureTest {

    /** Includes the classes of the core, which are on the class path. */
    private static final JavaClasses CLASSES = new ClassFileImporter()
            .withImportOption(new ImportOption.DoNotIncludeTests())
            // With -Pquick, test classes are in a directory that DoNotIncludeTests does not know.
            .withImportOption(location -> !location.contains("/test-classes/"))
            .importPackages("io.batchpersistence");

    @Test
    void of_the_internals_of_the_core_the_starter_uses_those_for_log_lines_only() {
        noClasses()
                .that()
                .resideInAPackage("io.batchpersistence.spring..")
                .should()
                .dependOnClassesThat(resideInAPackage("io.batchpersistence.internal..")
                        .and(not(resideInAPackage("io.batchpersistence.internal.log"))))
                .check(CLASSES);
    }

    @Test
    void packages_are_free_of_cycles() {
        slices().matching("io.batchpersistence.(**)").should().beFreeOfCycles().check(CLASSES);
    }
}
