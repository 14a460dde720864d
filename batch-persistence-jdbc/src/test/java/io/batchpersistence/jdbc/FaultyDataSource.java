package io.batchpersistence.jdbc;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.SQLNonTransientConnectionException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import javax.sql.DataSource;

/** A data source that fails on request. */
final class FaultyDataSource {

    /** Called before each step that can fail. Throws to make it fail. */
    @FunctionalInterface
    interface Fault {
        void at(String what) throws SQLException;
    }

    private final DataSource real;
    /** For the stores. */
    final DataSource dataSource = proxy(DataSource.class, (proxy, method, arguments) -> connect());

    volatile Fault beforeConnection = what -> {};
    volatile Fault beforeStatement = what -> {};
    volatile Fault beforeCommit = what -> {};
    volatile Fault afterCommit = what -> {};
    volatile Fault afterClose = what -> {};
    /** Whether the connection is lost at the next statement that commits by itself, before the server has it. */
    volatile boolean delaysNext;
    /** Executes that statement, on another connection. */
    volatile Callable<?> delayed;
    /** A statement that starts each transaction. */
    volatile String onTransaction;

    FaultyDataSource(DataSource real) {
        this.real = real;
    }

    static SQLException lost() {
        return new SQLNonTransientConnectionException("the connection was lost", "08006");
    }

    void refuse() {
        beforeConnection = what -> {
            throw lost();
        };
    }

    /** A fault after which the database is away. */
    Fault gone() {
        return what -> {
            refuse();
            throw lost();
        };
    }

    void recover() {
        beforeConnection = what -> {};
        beforeStatement = what -> {};
        beforeCommit = what -> {};
        afterCommit = what -> {};
        afterClose = what -> {};
    }

    /** Makes one of so many transactions fail at a random step. */
    void accidents(Random random, int oneIn) {
        Fault loses = what -> {
            if (random.nextInt(oneIn) == 0) {
                throw lost();
            }
        };
        beforeCommit = loses;
        afterCommit = loses;
        beforeStatement = what -> {
            if (random.nextInt(4 * oneIn) == 0) {
                throw random.nextBoolean() ? lost() : new SQLException("deadlock", "40P01");
            }
        };
    }

    /** On a writer thread: signals its arrival and waits. Returns whether this is a writer thread. */
    static boolean holdWriter(CountDownLatch arrived, CountDownLatch goOn) throws SQLException {
        if (!Thread.currentThread().getName().contains("writer")) {
            return false;
        }
        arrived.countDown();
        try {
            goOn.await();
        } catch (InterruptedException e) {
            throw new SQLException(e);
        }
        return true;
    }

    /** A fault of all statements with these words. */
    static Fault of(String words, SQLException failure) {
        return sql -> {
            if (sql.contains(words)) {
                throw failure;
            }
        };
    }

    /** A fault that occurs once. */
    static Fault once(SQLException failure) {
        return times(1, failure);
    }

    static Fault times(int times, SQLException failure) {
        int[] left = {times};
        return what -> {
            if (left[0]-- > 0) {
                throw failure;
            }
        };
    }

    private Connection connect() throws SQLException {
        beforeConnection.at("connect");
        Connection connection = real.getConnection();
        return proxy(Connection.class, (proxy, method, arguments) -> {
            if (method.getName().equals("commit")) {
                beforeCommit.at("commit");
                connection.commit();
                afterCommit.at("commit");
                return null;
            }
            Object result = call(connection, method, arguments);
            String first = onTransaction;
            if (first != null && method.getName().equals("setAutoCommit") && !connection.getAutoCommit()) {
                try (Statement statement = connection.createStatement()) {
                    statement.execute(first);
                }
            }
            if (method.getName().equals("close")) {
                afterClose.at("close");
            }
            return result instanceof PreparedStatement statement
                    ? faulty(connection, statement, (String) arguments[0])
                    : result;
        });
    }

    private PreparedStatement faulty(Connection connection, PreparedStatement statement, String sql) {
        List<Setting> settings = new ArrayList<>();
        return proxy(PreparedStatement.class, (proxy, method, arguments) -> {
            if (!method.getName().startsWith("execute")) {
                if (method.getName().startsWith("set") && arguments.length == 2) {
                    settings.add(later -> method.invoke(later, arguments));
                }
                return call(statement, method, arguments);
            }
            beforeStatement.at(sql);
            boolean commits = connection.getAutoCommit() && sql.startsWith("WITH ");
            if (commits && delaysNext) {
                delaysNext = false;
                delayed = () -> executeDelayed(sql, settings);
                throw lost();
            }
            if (commits) {
                beforeCommit.at(sql);
            }
            Object result = commits && onTransaction != null
                    ? inTransaction(connection, statement, method, arguments)
                    : call(statement, method, arguments);
            if (commits) {
                afterCommit.at(sql);
            }
            return result;
        });
    }

    /** Sets a value of a statement. */
    private interface Setting {
        void on(PreparedStatement statement) throws Exception;
    }

    private Object executeDelayed(String sql, List<Setting> settings) throws Exception {
        try (Connection connection = real.getConnection();
                PreparedStatement statement = connection.prepareStatement(sql)) {
            for (Setting setting : settings) {
                setting.on(statement);
            }
            return statement.execute();
        }
    }

    /** The connection is that of the pool: a transaction begins with the statement for that. */
    private Object inTransaction(Connection connection, PreparedStatement statement, Method method, Object[] arguments)
            throws Throwable {
        connection.setAutoCommit(false);
        try (Statement first = connection.createStatement()) {
            first.execute(onTransaction);
            Object result = call(statement, method, arguments);
            connection.commit();
            return result;
        } finally {
            connection.setAutoCommit(true);
        }
    }

    static Object call(Object target, Method method, Object[] arguments) throws Throwable {
        try {
            return method.invoke(target, arguments);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    static <T> T proxy(Class<T> type, InvocationHandler handler) {
        return type.cast(
                Proxy.newProxyInstance(FaultyDataSource.class.getClassLoader(), new Class<?>[] {type}, handler));
    }
}
