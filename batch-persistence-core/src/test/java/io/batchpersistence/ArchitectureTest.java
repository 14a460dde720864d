package io.batchpersistence;

import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;

import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import org.junit.jupiter.api.Test;

class ArchitectureTest {

    private static final JavaClasses CLASSES = new ClassFileImporter()
            .withImportOption(new ImportOption.DoNotIncludeTests())
            .importPackages("io.batchpersistence");

    /** The root package matches no slice here, since (**) wants at least one name: see the next test. */
    @Test
    void packagesAreFreeOfCycles() {
        slices().matching("io.batchpersistence.(**)").should().beFreeOfCycles().check(CLASSES);
    }

    @Test
    void rootPackageDependsOnNoSubpackage() {
        noClasses()
                .that()
                .resideInAPackage("io.batchpersistence")
                .should()
                .dependOnClassesThat()
                .resideInAPackage("io.batchpersistence.*..")
                .check(CLASSES);
    }

    @Test
    void coreKnowsNoFramework() {
        noClasses()
                .should()
                .dependOnClassesThat()
                .resideInAPackage("org.springframework..")
                .check(CLASSES);
    }
}
