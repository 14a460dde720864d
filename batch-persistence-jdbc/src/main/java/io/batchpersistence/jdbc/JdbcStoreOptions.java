package io.batchpersistence.jdbc;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.Compression;
import java.sql.Connection;
import java.time.Clock;
import java.time.Duration;
import java.util.Objects;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * Options of the store in a database. Immutable.
 *
 * @param tablePrefix the prefix of all table names: letters, digits and underscores, at most 30
 * @param schema the schema of the tables, by its exact name: it is quoted, so that it is case-sensitive; {@code null}
 *     for the connection's own
 * @param initializeSchema when missing tables are created, and tables of an earlier version upgraded
 * @param instanceName the name that operators see for this instance; need not be unique
 * @param application the name of the application, the same for all its instances; empty if it has no name. If another
 *     application keeps batches in the same tables, a warning is logged at start
 * @param lease how long after its last heartbeat the batches that this instance has in flight are given to the others
 * @param maxBatches the limit on batches held by all instances together, dead letters included
 * @param maxBytes the limit on the bytes of all payloads together
 * @param format the format that entries are written in; every format can always be read
 * @param compression the compression of new payloads; every compression can always be read
 * @param queryTimeout the time limit of a statement; rounded up to seconds
 * @param clock the callers' clock; leases and due times are compared on the database's own clock
 * @param transaction returns the connection of the calling thread's transaction, so that batches are persisted if and
 *     only if that transaction commits; returns {@code null} outside of a transaction. The store neither commits nor
 *     closes the connection
 */
public record JdbcStoreOptions(
        String tablePrefix,
        @Nullable String schema,
        InitializeSchema initializeSchema,
        String instanceName,
        String application,
        Duration lease,
        long maxBatches,
        long maxBytes,
        BatchFormat format,
        Compression compression,
        Duration queryTimeout,
        Clock clock,
        Supplier<? extends @Nullable Connection> transaction) {

    private static final Pattern PREFIX = Pattern.compile("[A-Za-z_][A-Za-z0-9_]{0,29}");
    private static final Pattern SCHEMA =
            Pattern.compile("[\\p{L}\\p{N}_$-](?:[\\p{L}\\p{N}_$. -]{0,61}[\\p{L}\\p{N}_$-])?");

    /** The maximum length of the name of an instance or an application, in characters. */
    public static final int MAX_INSTANCE_NAME = 255;

    /** When tables are created and upgraded. */
    public enum InitializeSchema {
        /** Only in a database in this process's memory, where no one else can have created them. */
        EMBEDDED,
        /** In every database. */
        ALWAYS,
        /** Never by the store: they are created with the SQL scripts that are shipped with it. */
        NEVER
    }

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if one is out of its range
     */
    public JdbcStoreOptions {
        Objects.requireNonNull(initializeSchema, "initialize schema must not be null");
        Objects.requireNonNull(format, "format must not be null");
        Objects.requireNonNull(compression, "compression must not be null");
        Objects.requireNonNull(clock, "clock must not be null");
        Objects.requireNonNull(transaction, "transaction must not be null");
        // They become part of SQL statements, so anything else is rejected.
        if (!PREFIX.matcher(tablePrefix).matches()) {
            throw new IllegalArgumentException(
                    "table prefix must be 1 to 30 letters, digits and underscores, and not begin with a digit");
        }
        if (schema != null && !SCHEMA.matcher(schema).matches()) {
            throw new IllegalArgumentException(
                    "schema must be 1 to 63 letters, digits, underscores, hyphens, dollar signs, dots and spaces, and neither begin"
                            + " nor end with a dot or a space");
        }
        if (instanceName.isBlank() || instanceName.length() > MAX_INSTANCE_NAME) {
            throw new IllegalArgumentException(
                    "instance name must not be blank, and have at most " + MAX_INSTANCE_NAME + " characters");
        }
        if (application.length() > MAX_INSTANCE_NAME) {
            throw new IllegalArgumentException(
                    "the application's name must have at most " + MAX_INSTANCE_NAME + " characters");
        }
        if (lease.compareTo(Duration.ofSeconds(1)) < 0 || lease.compareTo(Duration.ofDays(1)) > 0) {
            throw new IllegalArgumentException("lease must be between 1 second and 1 day");
        }
        if (maxBatches < 1) {
            throw new IllegalArgumentException("max pending batches must be at least 1, but is " + maxBatches);
        }
        if (maxBytes < 1) {
            throw new IllegalArgumentException("max disk usage must be at least 1 byte, but is " + maxBytes);
        }
        if (queryTimeout.isNegative() || queryTimeout.isZero() || queryTimeout.compareTo(Duration.ofHours(1)) > 0) {
            throw new IllegalArgumentException("query timeout must be positive, and at most an hour");
        }
    }

    /**
     * Creates a builder with the defaults: tables {@code batch_persistence_…} in the connection's own schema, created
     * if missing; a lease of 30 s; at most 1,000,000 batches and 1 GiB; protobuf, zstd; 10 s for a statement; no
     * transaction is joined.
     *
     * @return a builder, for one thread
     */
    public static Builder builder() {
        return new Builder();
    }

    /** Collects options. Not thread-safe. */
    public static final class Builder {

        private String tablePrefix = "batch_persistence_";
        private @Nullable String schema;
        private InitializeSchema initializeSchema = InitializeSchema.ALWAYS;
        private String instanceName = "instance";
        private String application = "";
        private Duration lease = Duration.ofSeconds(30);
        private long maxBatches = 1_000_000;
        private long maxBytes = 1L << 30;
        private BatchFormat format = BatchFormat.PROTOBUF;
        private Compression compression = Compression.ZSTD;
        private Duration queryTimeout = Duration.ofSeconds(10);
        private Clock clock = Clock.systemUTC();
        private Supplier<? extends @Nullable Connection> transaction = () -> null;

        private Builder() {}

        /**
         * Sets the prefix of all table names.
         *
         * @param tablePrefix letters, digits and underscores
         * @return this
         */
        public Builder tablePrefix(String tablePrefix) {
            this.tablePrefix = tablePrefix;
            return this;
        }

        /**
         * Sets the schema of the tables. It must exist under exactly that name: it is case-sensitive.
         *
         * @param schema its name; {@code null} for the connection's own
         * @return this
         */
        public Builder schema(@Nullable String schema) {
            this.schema = schema;
            return this;
        }

        /**
         * Sets whether tables are created and upgraded.
         *
         * @param initializeSchema {@link InitializeSchema#ALWAYS} or {@link InitializeSchema#NEVER}
         * @return this
         */
        public Builder initializeSchema(boolean initializeSchema) {
            return initializeSchema(initializeSchema ? InitializeSchema.ALWAYS : InitializeSchema.NEVER);
        }

        /**
         * Sets when tables are created and upgraded.
         *
         * @param initializeSchema when
         * @return this
         */
        public Builder initializeSchema(InitializeSchema initializeSchema) {
            this.initializeSchema = initializeSchema;
            return this;
        }

        /**
         * Sets the name that operators see for this instance.
         *
         * @param instanceName for example the host name
         * @return this
         */
        public Builder instanceName(String instanceName) {
            this.instanceName = instanceName;
            return this;
        }

        /**
         * Sets the name of the application, so that applications that share tables by mistake get a warning.
         *
         * @param application its name, the same for all its instances; empty if it has none
         * @return this
         */
        public Builder application(String application) {
            this.application = application;
            return this;
        }

        /**
         * Sets how long an instance without a heartbeat keeps what it has in flight. A heartbeat is sent every third of
         * that time.
         *
         * @param lease between a second and a day; the same for all instances
         * @return this
         */
        public Builder lease(Duration lease) {
            this.lease = lease;
            return this;
        }

        /**
         * Limits the number of batches held.
         *
         * @param maxBatches positive
         * @return this
         */
        public Builder maxBatches(long maxBatches) {
            this.maxBatches = maxBatches;
            return this;
        }

        /**
         * Limits the bytes of all payloads.
         *
         * @param maxBytes positive
         * @return this
         */
        public Builder maxBytes(long maxBytes) {
            this.maxBytes = maxBytes;
            return this;
        }

        /**
         * Sets the format that entries are written in.
         *
         * @param format the format
         * @return this
         */
        public Builder format(BatchFormat format) {
            this.format = format;
            return this;
        }

        /**
         * Sets how payloads are compressed.
         *
         * @param compression the compression
         * @return this
         */
        public Builder compression(Compression compression) {
            this.compression = compression;
            return this;
        }

        /**
         * Limits the time of a statement.
         *
         * @param queryTimeout positive
         * @return this
         */
        public Builder queryTimeout(Duration queryTimeout) {
            this.queryTimeout = queryTimeout;
            return this;
        }

        /**
         * Sets the callers' clock.
         *
         * @param clock tells the time
         * @return this
         */
        public Builder clock(Clock clock) {
            this.clock = clock;
            return this;
        }

        /**
         * Lets batches be persisted in their caller's transaction.
         *
         * @param transaction returns the connection of the calling thread's transaction, or {@code null}
         * @return this
         */
        public Builder transaction(Supplier<? extends @Nullable Connection> transaction) {
            this.transaction = transaction;
            return this;
        }

        /**
         * Creates the options.
         *
         * @return the options
         * @throws IllegalArgumentException if a value is out of its range
         */
        public JdbcStoreOptions build() {
            return new JdbcStoreOptions(
                    tablePrefix,
                    schema,
                    initializeSchema,
                    instanceName,
                    application,
                    lease,
                    maxBatches,
                    maxBytes,
                    format,
                    compression,
                    queryTimeout,
                    clock,
                    transaction);
        }
    }
}
