package io.batchpersistence;

import static com.tngtech.archunit.core.domain.JavaCall.Predicates.target;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.properties.HasName.Predicates.nameMatching;
import static com.tngtech.archunit.core.domain.properties.HasOwner.Predicates.With.owner;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;

import com.tngtech.archunit.base.DescribedPredicate;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import io.batchpersistence.internal.log.LogSanitizer;
import org.junit.jupiter.api.Test;

/** Rules for this module. A module on top of it extends this class: then they hold for both. */
public class ArchitectureTest {

    protected static final JavaClasses CLASSES = new ClassFileImporter()
            .withImportOption(new ImportOption.DoNotIncludeTests())
            // With -Pquick, test classes are in a directory that DoNotIncludeTests does not know.
            .withImportOption(location -> !location.contains("/test-classes/"))
            .withImportOption(location -> !location.contains("-tests.jar"))
            .importPackages("io.batchpersistence");

    /** The root package matches no slice here, since (**) needs at least one name. See the next test. */
    @Test
    void packages_are_free_of_cycles() {
        slices().matching("io.batchpersistence.(**)").should().beFreeOfCycles().check(CLASSES);
    }

    @Test
    void root_package_depends_on_texts_only() {
        noClasses()
                .that()
                .resideInAPackage("io.batchpersistence")
                .should()
                .dependOnClassesThat(resideInAPackage("io.batchpersistence.*..")
                        .and(DescribedPredicate.not(resideInAPackage("io.batchpersistence.internal.log"))))
                .check(CLASSES);
        noClasses()
                .that()
                .resideInAPackage("io.batchpersistence.internal.log")
                .should()
                .dependOnClassesThat(resideInAPackage("io.batchpersistence..")
                        .and(DescribedPredicate.not(resideInAPackage("io.batchpersistence.internal.log"))))
                .check(CLASSES);
    }

    /** Bytes from a disk may create objects of our own classes only, through our own code. */
    @Test
    void nothing_is_deserialized_by_java_or_by_name() {
        noClasses()
                .should()
                .dependOnClassesThat()
                .haveFullyQualifiedName("java.io.ObjectInputStream")
                .orShould()
                .dependOnClassesThat()
                .resideInAnyPackage(
                        "tools.jackson.databind.jsontype..",
                        "com.fasterxml.jackson..",
                        "java.beans..",
                        "java.rmi..",
                        "javax.xml..",
                        "org.yaml..")
                .orShould()
                .callMethod(Class.class, "forName", String.class)
                .check(CLASSES);
    }

    /** Data binding would choose the target type by class. Entries are read token by token. */
    @Test
    void json_is_only_written_through_data_binding() {
        noClasses()
                .should()
                .dependOnClassesThat()
                .haveNameMatching("tools\\.jackson\\.databind\\.(ObjectReader|JsonNode|DeserializationContext)")
                .orShould()
                .callMethodWhere(target(nameMatching("read.*|convertValue|treeTo.*"))
                        .and(target(owner(resideInAPackage("tools.jackson.databind..")))))
                .check(CLASSES);
    }

    /** Otherwise an id with a line feed could forge a log line. */
    @Test
    void what_is_logged_goes_through_log_sanitizer() {
        noClasses()
                .that()
                .doNotHaveFullyQualifiedName(LogSanitizer.class.getName())
                .should()
                .dependOnClassesThat()
                .haveFullyQualifiedName("org.slf4j.LoggerFactory")
                .check(CLASSES);
    }

    /** The Disk interface decides which links are followed and who may read a file. */
    @Test
    void only_the_disk_touches_files() {
        noClasses()
                .that()
                .resideOutsideOfPackage("io.batchpersistence.internal.disk")
                .should()
                .dependOnClassesThat()
                .haveNameMatching("java\\.nio\\.file\\.Files|java\\.nio\\.channels\\.FileChannel"
                        + "|java\\.io\\.(RandomAccessFile|File|FileInputStream|FileOutputStream|FileReader|FileWriter)")
                .check(CLASSES);
    }

    @Test
    void core_knows_no_framework() {
        noClasses()
                .should()
                .dependOnClassesThat()
                .resideInAPackage("org.springframework..")
                .check(CLASSES);
    }
}
