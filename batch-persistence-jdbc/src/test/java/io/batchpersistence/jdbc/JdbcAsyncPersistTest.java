package io.batchpersistence.jdbc;

import io.batchpersistence.fixtures.AsyncPersistContract;
import io.batchpersistence.spi.BatchStore;
import java.nio.file.Path;
import org.h2.jdbcx.JdbcDataSource;

class JdbcAsyncPersistTest extends AsyncPersistContract {

    @Override
    protected BatchStore open(Path directory) {
        JdbcDataSource database = new JdbcDataSource();
        database.setURL("jdbc:h2:mem:async;DB_CLOSE_DELAY=-1");
        return JdbcBatchStore.open(database, JdbcStoreOptions.builder().build());
    }
}
