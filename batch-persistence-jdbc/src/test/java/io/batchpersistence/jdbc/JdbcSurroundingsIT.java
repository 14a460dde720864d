package io.batchpersistence.jdbc;

import io.batchpersistence.store.HostileSurroundingsIT;
import java.util.List;

/** The database stores in the same surroundings. */
class JdbcSurroundingsIT extends HostileSurroundingsIT {

    JdbcSurroundingsIT() {
        super(
                List.of(JdbcH2ContractTest.class.getName(), FallbackAwayContractTest.class.getName()),
                List.of(),
                List.of());
    }
}
