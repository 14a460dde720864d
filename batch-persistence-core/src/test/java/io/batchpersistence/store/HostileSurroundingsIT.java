package io.batchpersistence.store;

import java.util.List;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

@EnabledOnOs(value = OS.LINUX, disabledReason = "needs umask, taskset, setpriv")
class HostileSurroundingsIT extends HostileSurroundings {

    HostileSurroundingsIT() {
        super(
                List.of(
                        "io.batchpersistence.store.SegmentProtobufContractTest",
                        "io.batchpersistence.store.JsonFileContractTest"),
                List.of("io.batchpersistence.store.JsonFileContractTest"),
                List.of("io.batchpersistence.store.PermissionsAndLinksTest"));
    }
}
