package io.batchpersistence.jdbc;

import io.batchpersistence.store.HostileSurroundings;
import java.util.List;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

/** The database stores in the same surroundings. */
@EnabledOnOs(value = OS.LINUX, disabledReason = "needs umask, taskset, setpriv")
class JdbcSurroundingsIT extends HostileSurroundings {

    JdbcSurroundingsIT() {
        super(
                List.of(JdbcH2ContractTest.class.getName(), FallbackAwayContractTest.class.getName()),
                List.of(),
                List.of());
    }
}
