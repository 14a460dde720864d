package io.batchpersistence.jdbc;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * What PostgreSQL's own driver offers beyond JDBC. The driver comes from the application, so it is used by reflection
 * where it is present, and not required. Thread-safe.
 */
final class Pgjdbc {

    private final Class<?> connections;
    private final Class<?> statements;
    private final Method backendPid;
    private final Method prepareThreshold;

    private Pgjdbc(Class<?> connections, Class<?> statements) throws NoSuchMethodException {
        this.connections = connections;
        this.statements = statements;
        this.backendPid = connections.getMethod("getBackendPID");
        this.prepareThreshold = statements.getMethod("setPrepareThreshold", int.class);
    }

    /**
     * The driver of a connection; {@code null} if it is another driver, or wrapped in something that does not unwrap
     * it.
     */
    static @Nullable Pgjdbc of(Connection connection) throws SQLException {
        for (ClassLoader loader : Arrays.asList(
                connection.getMetaData().getClass().getClassLoader(),
                connection.getClass().getClassLoader(),
                Thread.currentThread().getContextClassLoader())) {
            try {
                Class<?> connections = Class.forName("org.postgresql.PGConnection", false, loader);
                if (connection.isWrapperFor(connections)) {
                    return new Pgjdbc(connections, Class.forName("org.postgresql.PGStatement", false, loader));
                }
            } catch (ReflectiveOperationException | LinkageError e) {
                // Not visible from this class loader.
            }
        }
        return null;
    }

    /** The process id of the server, as reported to the driver when the connection was opened. */
    int backendPid(Connection connection) throws SQLException {
        return (Integer) call(backendPid, connection.unwrap(connections));
    }

    /**
     * Keeps the driver from preparing the statement on the server under a name: behind a pooler, that name may execute
     * what another client has prepared.
     */
    void neverPrepares(PreparedStatement statement) throws SQLException {
        call(prepareThreshold, statement.unwrap(statements), 0);
    }

    private static Object call(Method method, Object target, Object... arguments) throws SQLException {
        try {
            return method.invoke(target, arguments);
        } catch (InvocationTargetException e) {
            if (e.getCause() instanceof SQLException cause) {
                throw cause;
            }
            throw new SQLException("the driver failed: " + e.getCause(), e);
        } catch (IllegalAccessException e) {
            throw new SQLException("the driver can't be used: " + e, e);
        }
    }
}
