package io.batchpersistence.store.jdbc;

import io.batchpersistence.codec.BatchFormat;
import io.batchpersistence.codec.Compression;
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
 * @param tablePrefix what the names of all tables begin with: letters, digits and underscores, at most 30
 * @param schema the schema that the tables are in, by its very name: it is quoted, so that the case of letters counts; {@code null}
 *     for the connection's own
 * @param initializeSchema when tables that are missing are created, and those of an earlier version upgraded
 * @param instanceName what operators know this instance by; need not be unique
 * @param application what the application is called, the same for all its instances; empty if it has no name. If others keep
 *     batches in the same tables, that is logged at start
 * @param lease how long after its last sign of life what this instance has in flight is given to the others
 * @param maxBatches most batches held by all instances together, dead letters included
 * @param maxBytes most bytes of all payloads together
 * @param format how entries are written; every format is always read
 * @param compression how payloads are compressed; every one is always read
 * @param queryTimeout the longest time a statement may take; rounded up to seconds
 * @param clock tells the time that callers go by; leases and due times are compared on the database's own
 * @param transaction the connection of the transaction that the calling thread is in, for batches that are to be persisted
 *     exactly if it commits; {@code null} if it is in none. The store neither commits nor closes it
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

    /** Most characters of an instance's and an application's name. */
    public static final int MAX_INSTANCE_NAME = 255;

    /** When tables are created and upgraded. */
    public enum InitializeSchema {
        /** In a database that lives in this process's memory only, where nobody else can have made them. */
        EMBEDDED,
        /** In every database. */
        ALWAYS,
        /** By somebody else, with the scripts that are shipped. */
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
        // They become part of statements, so nothing else is let through.
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
     * Starts options with the defaults: tables {@code batch_persistence_…} in the connection's own schema, created if missing; a
     * lease of 30 s; 1,000,000 batches, 1 GB; protobuf, zstd; 10 s for a statement; no transaction is joined.
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
         * Sets what the names of all tables begin with.
         *
         * @param tablePrefix letters, digits and underscores
         * @return this
         */
        public Builder tablePrefix(String tablePrefix) {
            this.tablePrefix = tablePrefix;
            return this;
        }

        /**
         * Sets the schema that the tables are in. It must exist, under that very name: the case of letters counts.
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
         * Sets what operators know this instance by.
         *
         * @param instanceName for instance the host's name
         * @return this
         */
        public Builder instanceName(String instanceName) {
            this.instanceName = instanceName;
            return this;
        }

        /**
         * Sets what the application is called, so that applications that share tables by mistake are told so.
         *
         * @param application its name, the same for all its instances; empty if it has none
         * @return this
         */
        public Builder application(String application) {
            this.application = application;
            return this;
        }

        /**
         * Sets how long an instance that gives no sign of life keeps what it has in flight. It gives one every third of that.
         *
         * @param lease between a second and a day; the same for all instances
         * @return this
         */
        public Builder lease(Duration lease) {
            this.lease = lease;
            return this;
        }

        /**
         * Bounds the number of batches held.
         *
         * @param maxBatches positive
         * @return this
         */
        public Builder maxBatches(long maxBatches) {
            this.maxBatches = maxBatches;
            return this;
        }

        /**
         * Bounds the bytes of all payloads.
         *
         * @param maxBytes positive
         * @return this
         */
        public Builder maxBytes(long maxBytes) {
            this.maxBytes = maxBytes;
            return this;
        }

        /**
         * Sets how entries are written.
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
         * Bounds the time of a statement.
         *
         * @param queryTimeout positive
         * @return this
         */
        public Builder queryTimeout(Duration queryTimeout) {
            this.queryTimeout = queryTimeout;
            return this;
        }

        /**
         * Sets the clock that callers go by.
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
         * @param transaction the connection of the transaction that the calling thread is in, or {@code null}
         * @return this
         */
        public Builder transaction(Supplier<? extends @Nullable Connection> transaction) {
            this.transaction = transaction;
            return this;
        }

        /**
         * Makes the options.
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
