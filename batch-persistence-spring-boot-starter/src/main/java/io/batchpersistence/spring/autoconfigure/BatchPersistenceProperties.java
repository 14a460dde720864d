package io.batchpersistence.spring.autoconfigure;

import io.batchpersistence.BatchFormat;
import io.batchpersistence.BatchOrder;
import io.batchpersistence.BatchSelector;
import io.batchpersistence.CollectorSettings;
import io.batchpersistence.Compression;
import io.batchpersistence.DiskStoreOptions;
import io.batchpersistence.OverflowPolicy;
import io.batchpersistence.RecoveryPolicy;
import io.batchpersistence.SyncPolicy;
import io.batchpersistence.jdbc.JdbcStoreOptions;
import io.batchpersistence.jdbc.JdbcStoreOptions.InitializeSchema;
import io.batchpersistence.spi.NewBatch;
import io.batchpersistence.spring.operator.ShowEntries;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.sql.Connection;
import java.time.Clock;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;
import org.springframework.util.unit.DataSize;

/**
 * The section {@code batch_persistence} of the application's configuration. Immutable.
 *
 * <p>An unknown key fails the start-up: otherwise a misspelt limit would silently have its default value.
 *
 * @param enabled Whether batches are kept. If false, the BatchPersistence bean does nothing and nothing is written.
 * @param directory Directory where batches are kept, created if absent. A relative path is relative to the working
 *     directory. Every application needs its own directory.
 * @param batchTimeout How long a batch may be in flight before that counts as a failed attempt.
 * @param maxRecoveryRetries Failed attempts after which a batch becomes a dead letter.
 * @param batchTtl Age at which an undelivered batch is removed, counted and announced.
 * @param deadLetterTtl Age at which a dead letter is removed, counted and announced. The age starts when the batch
 *     becomes a dead letter.
 * @param maxPendingBatches Maximum number of batches held at a time, dead letters included.
 * @param maxDiskUsage Maximum size of all files together, in bytes, dead letters included; with store "jdbc" of all
 *     payloads of all instances.
 * @param maxDeadLetterUsage Maximum size of all dead letters together, in bytes; the oldest are dropped for newer ones.
 *     If not set, they may use all of max_disk_usage.
 * @param overflowPolicy What happens to a new batch when a limit is reached.
 * @param overflowTimeout How long overflow policy "block" waits for space before it rejects the batch.
 * @param store How batches are kept: appended to segment files, one readable JSON file each, or in a database that all
 *     instances of the application share.
 * @param format How entries are written. Formats written earlier stay readable.
 * @param compression How entries are compressed. Compressions used earlier stay readable.
 * @param jdbc The database, with store "jdbc".
 * @param sync When bytes are forced to the disk: before persistBatch returns, at regular intervals, or when the
 *     operating system decides.
 * @param syncInterval How long a mark may stay unforced; with sync "interval", a batch, too.
 * @param shutdownTimeout How long shutdown waits for batches being sent. Batches that are not done by then are sent
 *     again after the restart.
 * @param recovery Recovery: sends undelivered batches again.
 * @param cleanup Cleanup: removes batches that outlived their TTL and frees disk space.
 * @param health Thresholds of the health indicator.
 * @param endpoint The actuator endpoint.
 * @param ui The operators' page.
 * @param collectors Overrides for single collector types. A name with characters other than lower-case letters, digits
 *     and dashes is written in brackets and quotes: "[My.Collector]".
 */
@ConfigurationProperties(prefix = "batch-persistence", ignoreUnknownFields = false)
public record BatchPersistenceProperties(
        @DefaultValue("true") boolean enabled,
        @DefaultValue("./batch_persistence") String directory,
        @DefaultValue("5m") Duration batchTimeout,
        @DefaultValue("10") int maxRecoveryRetries,
        @DefaultValue("24h") Duration batchTtl,
        @DefaultValue("7d") Duration deadLetterTtl,
        @DefaultValue("1000000") long maxPendingBatches,
        @DefaultValue("1GB") DataSize maxDiskUsage,
        @Nullable DataSize maxDeadLetterUsage,
        @DefaultValue("reject") OverflowPolicy overflowPolicy,
        @DefaultValue("5s") Duration overflowTimeout,
        @DefaultValue("segment") Store store,
        @DefaultValue Jdbc jdbc,
        @Nullable BatchFormat format,
        @Nullable Compression compression,
        @DefaultValue("always") SyncPolicy sync,
        @DefaultValue("200ms") Duration syncInterval,
        @DefaultValue("30s") Duration shutdownTimeout,
        @DefaultValue Recovery recovery,
        @DefaultValue Cleanup cleanup,
        @DefaultValue Health health,
        @DefaultValue Endpoint endpoint,
        @DefaultValue Ui ui,
        @DefaultValue Map<String, Collector> collectors) {

    private static final long MAX_PENDING_BATCHES = 500_000_000;

    /** The stores. */
    public enum Store {
        /** Append-only segment files: fast and small. */
        SEGMENT,
        /** One JSON file per batch, for a person to read and edit. */
        JSON_FILES,
        /** Tables in the application's database, shared by all of its instances. */
        JDBC
    }

    /**
     * Checks the values and their combinations.
     *
     * @throws IllegalArgumentException if a value is invalid; the message names the key, the reason and what to change
     */
    public BatchPersistenceProperties {
        collectors = Map.copyOf(collectors);
        checkDirectory(directory);
        positive(batchTimeout, "batch_timeout", "5m");
        atLeastOne(maxRecoveryRetries, "max_recovery_retries", "10");
        positive(batchTtl, "batch_ttl", "24h");
        positive(deadLetterTtl, "dead_letter_ttl", "7d");
        atLeastOne(maxPendingBatches, "max_pending_batches", "1000000");
        if (maxPendingBatches > MAX_PENDING_BATCHES) {
            throw new InvalidSettingException(
                    "max_pending_batches",
                    "is " + maxPendingBatches + ", but a store holds at most " + MAX_PENDING_BATCHES,
                    "Set a number, for instance 1000000.");
        }
        if (maxDiskUsage.toBytes() < DiskStoreOptions.MIN_DISK_USAGE) {
            throw new InvalidSettingException(
                    "max_disk_usage",
                    "is " + maxDiskUsage + ", but a store needs at least "
                            + DataSize.ofBytes(DiskStoreOptions.MIN_DISK_USAGE).toMegabytes() + "MB",
                    "Set a size, for instance 1GB. A number without a unit is in bytes.");
        }
        if (maxDeadLetterUsage != null && maxDeadLetterUsage.toBytes() <= 0) {
            throw new InvalidSettingException(
                    "max_dead_letter_usage",
                    "is " + maxDeadLetterUsage + ", but must be positive",
                    "Set a size, for instance 100MB, or remove it: then max_disk_usage limits dead letters, too.");
        }
        notNegative(overflowTimeout, "overflow_timeout", "5s");
        positive(syncInterval, "sync_interval", "200ms");
        notNegative(shutdownTimeout, "shutdown_timeout", "30s");
        if (store == Store.JSON_FILES && format == BatchFormat.PROTOBUF) {
            throw new InvalidSettingException(
                    "format",
                    "is protobuf, but batch_persistence.store is json_files, which only writes JSON",
                    "Remove batch_persistence.format, or set batch_persistence.store to segment.");
        }
        if (store == Store.JSON_FILES && compression == Compression.ZSTD) {
            throw new InvalidSettingException(
                    "compression",
                    "is zstd, but batch_persistence.store is json_files, whose files are there to be read by people",
                    "Remove batch_persistence.compression, or set batch_persistence.store to segment.");
        }
        if (store == Store.JDBC && sync != SyncPolicy.ALWAYS) {
            throw new InvalidSettingException(
                    "sync",
                    "is " + word(sync)
                            + ", but batch_persistence.store is jdbc, where the database says when bytes are forced to"
                            + " its disk",
                    "Remove batch_persistence.sync, and set up the database that way if that is what you want (PostgreSQL:"
                            + " synchronous_commit).");
        }
        if (store != Store.JDBC && jdbc.joinTransaction()) {
            throw new InvalidSettingException(
                    "jdbc.join_transaction",
                    "is true, but batch_persistence.store is " + word(store)
                            + ", which can't be part of a database transaction",
                    "Set batch_persistence.store to jdbc, or remove batch_persistence.jdbc.join_transaction.");
        }
        if (store != Store.JDBC && jdbc.fallback() != Jdbc.Fallback.NONE) {
            throw new InvalidSettingException(
                    "jdbc.fallback",
                    "is " + word(jdbc.fallback()) + ", but batch_persistence.store is " + word(store)
                            + ", which needs no database",
                    "Set batch_persistence.store to jdbc, or remove batch_persistence.jdbc.fallback.");
        }
        if (batchTimeout.compareTo(batchTtl) >= 0) {
            throw timeoutNotBelowTtl("batch_timeout", batchTimeout, "batch_ttl", batchTtl);
        }
        for (Map.Entry<String, Collector> entry : collectors.entrySet()) {
            checkCollectorType(entry.getKey(), "collectors");
            entry.getValue().check(entry.getKey(), batchTimeout, batchTtl, recovery);
        }
    }

    /**
     * Returns the directory in which batches are kept.
     *
     * @return the directory, absolute
     */
    public Path path() {
        // Not bound as a Path: Spring would look for a class path resource of that name first.
        return Path.of(directory).toAbsolutePath().normalize();
    }

    /**
     * Returns the settings for the batches of one collector type: its overrides, and the common settings where it has
     * none.
     *
     * @param collectorType the collector type's name
     * @return the settings
     */
    public CollectorSettings collectorSettings(String collectorType) {
        Collector own = collectors.getOrDefault(collectorType, Collector.NONE);
        CollectorRecovery ownRecovery = own.recovery();
        return new CollectorSettings(
                or(own.batchTimeout(), batchTimeout),
                or(own.batchTtl(), batchTtl),
                or(own.deadLetterTtl(), deadLetterTtl),
                new RecoveryPolicy(
                        or(ownRecovery.backoffBase(), recovery.backoffBase()),
                        or(ownRecovery.backoffMultiplier(), recovery.backoffMultiplier()),
                        or(ownRecovery.backoffMax(), recovery.backoffMax()),
                        or(ownRecovery.jitter(), recovery.jitter()),
                        or(own.maxRecoveryRetries(), maxRecoveryRetries)),
                or(ownRecovery.enabled(), recovery.enabled()) && recovery.selects(collectorType),
                or(ownRecovery.concurrency(), recovery.concurrency()),
                or(ownRecovery.maxRate(), recovery.maxRate()),
                or(ownRecovery.order(), recovery.order()),
                or(ownRecovery.outageThreshold(), recovery.outageThreshold()),
                or(ownRecovery.maxRetryAfter(), recovery.maxRetryAfter()),
                or(ownRecovery.replayAfterOutage(), recovery.replayAfterOutage()));
    }

    /**
     * Returns the options of the store on disk.
     *
     * @param clock the current time
     * @return options, with the format and the compression that suit the store if none are configured
     */
    public DiskStoreOptions storeOptions(Clock clock) {
        boolean files = store == Store.JSON_FILES;
        return DiskStoreOptions.builder(path())
                .format(or(format, files ? BatchFormat.JSON : BatchFormat.PROTOBUF))
                .compression(or(compression, files ? Compression.NONE : Compression.ZSTD))
                .sync(sync)
                .syncInterval(syncInterval)
                .maxBatches(maxPendingBatches)
                .maxDiskUsage(maxDiskUsage.toBytes())
                .compactionRate(cleanup.compactionRate().toBytes())
                .clock(clock)
                .build();
    }

    /**
     * Returns the options of the store in a database.
     *
     * @param application the name of the application; empty if it has none
     * @param clock the current time
     * @param transaction supplies the connection of the transaction that the calling thread is in
     * @return options, with this host's name if no instance name is configured
     */
    JdbcStoreOptions jdbcStoreOptions(
            String application, Clock clock, Supplier<? extends @Nullable Connection> transaction) {
        return JdbcStoreOptions.builder()
                .tablePrefix(jdbc.tablePrefix())
                .schema(jdbc.schema())
                .initializeSchema(jdbc.initializeSchema())
                .instanceName(or(jdbc.instanceName(), Jdbc.hostName()))
                .application(shortened(application))
                .lease(jdbc.lease())
                .queryTimeout(jdbc.queryTimeout())
                .maxBatches(maxPendingBatches)
                .maxBytes(maxDiskUsage.toBytes())
                .format(or(format, BatchFormat.PROTOBUF))
                .compression(or(compression, Compression.ZSTD))
                .clock(clock)
                .transaction(transaction)
                .build();
    }

    private static String shortened(String name) {
        return name.substring(0, Math.min(name.length(), JdbcStoreOptions.MAX_INSTANCE_NAME));
    }

    /**
     * The database, with store "jdbc".
     *
     * @param dataSource Name of the DataSource bean. Required if there are several and none is primary.
     * @param tablePrefix Prefix of the names of all tables.
     * @param schema Schema that contains the tables. It must exist. If not set, the default schema of the connections.
     * @param initializeSchema When missing tables are created at start-up: only in an in-memory database, always, or
     *     never.
     * @param instanceName Name of this instance for operators. The default is the name of the host.
     * @param lease Time after an instance's last heartbeat until its batches in flight are given to the other
     *     instances. Must be the same for all instances.
     * @param queryTimeout Maximum duration of a statement.
     * @param joinTransaction Whether a batch that is persisted within a transaction of the application is part of it.
     * @param fallback Where new batches are kept while the database is unavailable, to be moved there when it is
     *     available again: nowhere, or in segment files in the directory.
     */
    public record Jdbc(
            @Nullable String dataSource,
            @DefaultValue("batch_persistence_") String tablePrefix,
            @Nullable String schema,
            @DefaultValue("embedded") InitializeSchema initializeSchema,
            @Nullable String instanceName,
            @DefaultValue("30s") Duration lease,
            @DefaultValue("10s") Duration queryTimeout,
            @DefaultValue("false") boolean joinTransaction,
            @DefaultValue("none") Fallback fallback) {

        /** Where batches are kept while the database is unavailable. */
        public enum Fallback {
            /** Nowhere: new batches are refused. */
            NONE,
            /** In segment files in the directory, which belongs to this instance alone. */
            SEGMENT
        }

        /**
         * Checks the values.
         *
         * @throws IllegalArgumentException if a value is invalid; the message names the key, the reason and what to
         *     change
         */
        public Jdbc {
            if (dataSource != null && dataSource.isBlank()) {
                throw new InvalidSettingException(
                        "jdbc.data_source",
                        "is blank, but must name a bean",
                        "Set the name of a DataSource bean, or remove it if there is only one.");
            }
            possible(
                    "jdbc.table_prefix",
                    "'" + tablePrefix + "'",
                    options -> options.tablePrefix(tablePrefix),
                    "Set a prefix, for instance batch_persistence_.");
            possible(
                    "jdbc.schema",
                    "'" + schema + "'",
                    options -> options.schema(schema),
                    "Set the name of a schema that exists, or remove it: then it is the one that connections have.");
            if (instanceName != null) {
                possible(
                        "jdbc.instance_name",
                        "'" + instanceName + "'",
                        options -> options.instanceName(instanceName),
                        "Set a name, for instance ${HOSTNAME}, or remove it: then it is the host's.");
            }
            possible(
                    "jdbc.lease",
                    text(lease),
                    options -> options.lease(lease),
                    "Set a duration, for instance 30s. A number without a unit is in milliseconds.");
            possible(
                    "jdbc.query_timeout",
                    text(queryTimeout),
                    options -> options.queryTimeout(queryTimeout),
                    "Set a duration, for instance 10s. A number without a unit is in milliseconds.");
            if (queryTimeout.compareTo(lease) >= 0) {
                throw new InvalidSettingException(
                        "jdbc.query_timeout",
                        "is " + text(queryTimeout) + ", but batch_persistence.jdbc.lease is " + text(lease)
                                + ": while it waits for one statement, the lease of this instance would expire",
                        "Lower batch_persistence.jdbc.query_timeout or raise batch_persistence.jdbc.lease.");
            }
        }

        /**
         * The store's options check the value; this method adds the configuration key and the action to the failure.
         */
        private static void possible(
                String key, String value, UnaryOperator<JdbcStoreOptions.Builder> setting, String action) {
            try {
                var unused = setting.apply(JdbcStoreOptions.builder()).build();
            } catch (IllegalArgumentException e) {
                throw new InvalidSettingException(key, "is " + value + ": " + e.getMessage(), action);
            }
        }

        private static String hostName() {
            // In a container, this is the name of the pod.
            String name = System.getenv("HOSTNAME");
            if (name == null || name.isBlank()) {
                try {
                    name = InetAddress.getLocalHost().getHostName();
                } catch (UnknownHostException e) {
                    name = "";
                }
            }
            String known = name.isBlank() ? "instance" : name;
            return shortened(known);
        }
    }

    /**
     * Recovery: sends undelivered batches again.
     *
     * @param enabled Whether batches are sent again automatically. If false, they wait for recover() to be called.
     * @param interval Time between two rounds of recovery.
     * @param backoffBase Delay before the second attempt.
     * @param backoffMultiplier Growth of the delay from attempt to attempt.
     * @param backoffMax Maximum delay between two attempts.
     * @param jitter Share of every delay that is random, from 0 to 1.
     * @param concurrency Number of batches of one collector type that are sent at the same time.
     * @param maxRate Maximum number of batches of one collector type that are sent per second, 0 for no limit.
     * @param order Order in which the due batches of one collector type are sent.
     * @param outageThreshold Consecutive failures after which a collector is marked down and only probed, 0 for never.
     * @param maxRetryAfter Maximum delay that a collector can ask for. A longer one is reduced to this value and
     *     logged.
     * @param replayAfterOutage Whether dead letters that used up their retries are replayed when an outage of their
     *     collector ends.
     * @param maxThreads Maximum number of threads that send at the same time, for all collector types together. When it
     *     is reached, a collector type that has no thread still gets one. Not used with virtual threads.
     * @param includeCollectorTypes Names of the only collector types that recovery serves. Empty for all.
     * @param excludeCollectorTypes Names of collector types that recovery does not serve.
     * @param excludeFailureReasons Patterns of failure reasons: recovery does not send a batch that failed for such a
     *     reason until recover() is called. * stands for any characters and ? for one. Case is ignored.
     */
    public record Recovery(
            @DefaultValue("true") boolean enabled,
            @DefaultValue("1s") Duration interval,
            @DefaultValue("1s") Duration backoffBase,
            @DefaultValue("2") double backoffMultiplier,
            @DefaultValue("5m") Duration backoffMax,
            @DefaultValue("0.5") double jitter,
            @DefaultValue("1") int concurrency,
            @DefaultValue("0") double maxRate,
            @DefaultValue("oldest_first") BatchOrder order,
            @DefaultValue("3") int outageThreshold,
            @DefaultValue("1h") Duration maxRetryAfter,
            @DefaultValue("false") boolean replayAfterOutage,
            @DefaultValue("256") int maxThreads,
            @DefaultValue Set<String> includeCollectorTypes,
            @DefaultValue Set<String> excludeCollectorTypes,
            @DefaultValue List<String> excludeFailureReasons) {

        /**
         * Checks the values.
         *
         * @throws IllegalArgumentException if a value is invalid; the message names the key, the reason and what to
         *     change
         */
        public Recovery {
            includeCollectorTypes = Set.copyOf(includeCollectorTypes);
            excludeCollectorTypes = Set.copyOf(excludeCollectorTypes);
            excludeFailureReasons = List.copyOf(excludeFailureReasons);
            includeCollectorTypes.forEach(type -> checkCollectorType(type, "recovery.include_collector_types"));
            excludeCollectorTypes.forEach(type -> checkCollectorType(type, "recovery.exclude_collector_types"));
            for (String glob : excludeFailureReasons) {
                try {
                    BatchSelector.glob(glob);
                } catch (IllegalArgumentException e) {
                    throw new InvalidSettingException(
                            "recovery.exclude_failure_reasons",
                            "has a pattern that is too long: " + e.getMessage(),
                            "Shorten it; * stands for any run of characters.");
                }
            }
            positive(interval, "recovery.interval", "1s");
            atLeastOne(maxThreads, "recovery.max_threads", "256");
            checkRecovery(
                    "recovery.",
                    backoffBase,
                    backoffMultiplier,
                    backoffMax,
                    jitter,
                    concurrency,
                    maxRate,
                    outageThreshold,
                    maxRetryAfter);
            Set<String> both = new HashSet<>(includeCollectorTypes);
            both.retainAll(excludeCollectorTypes);
            if (!both.isEmpty()) {
                throw new InvalidSettingException(
                        "recovery.include_collector_types",
                        "and batch_persistence.recovery.exclude_collector_types both name " + String.join(", ", both),
                        "Remove it from one of the two lists.");
            }
        }

        boolean selects(String collectorType) {
            return (includeCollectorTypes.isEmpty() || includeCollectorTypes.contains(collectorType))
                    && !excludeCollectorTypes.contains(collectorType);
        }
    }

    /**
     * Cleanup: removes batches that outlived their TTL and frees disk space.
     *
     * @param interval Time between two rounds of cleanup.
     * @param compactionRate Maximum number of bytes per second that are copied to free the space between batches that
     *     are still held.
     */
    public record Cleanup(
            @DefaultValue("1m") Duration interval,
            @DefaultValue("32MB") DataSize compactionRate) {

        /**
         * Checks the values.
         *
         * @throws IllegalArgumentException if a value is not positive
         */
        public Cleanup {
            positive(interval, "cleanup.interval", "1m");
            if (compactionRate.toBytes() < 1) {
                throw new InvalidSettingException(
                        "cleanup.compaction_rate",
                        "is " + compactionRate + ", but must be positive",
                        "Set a size, for instance 32MB. A number without a unit is in bytes.");
            }
        }
    }

    /**
     * Thresholds of the health indicator.
     *
     * @param maxPendingAge Age of the oldest undelivered batch from which on health is DEGRADED.
     * @param maxFillLevel Share of max_pending_batches or max_disk_usage, from 0 to 1, from which on health is
     *     DEGRADED.
     * @param corruptionWindow How long health is DEGRADED after batches were lost to damage on disk, so that an
     *     operator can notice it.
     */
    public record Health(
            @DefaultValue("1h") Duration maxPendingAge,
            @DefaultValue("0.9") double maxFillLevel,
            @DefaultValue("24h") Duration corruptionWindow) {

        /**
         * Checks the values.
         *
         * @throws IllegalArgumentException if a value is invalid; the message names the key, the reason and what to
         *     change
         */
        public Health {
            positive(maxPendingAge, "health.max_pending_age", "1h");
            notNegative(corruptionWindow, "health.corruption_window", "24h");
            if (!(maxFillLevel > 0 && maxFillLevel <= 1)) {
                throw new InvalidSettingException(
                        "health.max_fill_level",
                        "is " + maxFillLevel + ", but must be above 0 and at most 1",
                        "Set a share, for instance 0.9 for 90 percent.");
            }
        }
    }

    /**
     * The actuator endpoint. Read and write access to it are configured by management.endpoints.* and
     * management.endpoint.batchpersistence.access.
     *
     * @param showEntries Who may see the entries and the context of a batch.
     * @param roles Roles of which a user needs one with show_entries "when_authorized"; if empty, any logged-in user is
     *     authorized.
     */
    public record Endpoint(
            @DefaultValue("never") ShowEntries showEntries,
            @DefaultValue List<String> roles) {

        /** Copies the list. */
        public Endpoint {
            roles = List.copyOf(roles);
        }
    }

    /**
     * The operators' page.
     *
     * @param enabled Whether the application has a page for operators.
     * @param path Path of the page, on the application's own port.
     * @param access Whether the page can make changes or is read-only.
     */
    public record Ui(
            @DefaultValue("false") boolean enabled,
            @DefaultValue("/batch-persistence") String path,
            @DefaultValue("read_only") Access access) {

        private static final Pattern PATH = Pattern.compile("(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+");

        /** What operators can do on the page. */
        public enum Access {
            /** View only; the page changes nothing. */
            READ_ONLY,
            /** View, retry, replay, discard, pause and resume. */
            UNRESTRICTED
        }

        /**
         * Checks the values.
         *
         * @throws IllegalArgumentException if the path is invalid; the message contains the reason and what to change
         */
        public Ui {
            if (!PATH.matcher(path).matches()) {
                throw new InvalidSettingException(
                        "ui.path",
                        "is '" + path + "', but must be one or more names, each after a slash, and no slash at the end;"
                                + " names are made of letters, digits, dashes, underscores, tildes and, but for the first"
                                + " character, dots",
                        "Set a path, for instance /batch-persistence.");
            }
        }
    }

    /**
     * Overrides for one collector type. A setting that is absent has the common value.
     *
     * @param batchTimeout How long a batch of this collector type may be in flight before that counts as a failed
     *     attempt.
     * @param maxRecoveryRetries Failed attempts after which a batch of this collector type becomes a dead letter.
     * @param batchTtl Age at which an undelivered batch of this collector type is removed.
     * @param deadLetterTtl Age at which a dead letter of this collector type is removed. The age starts when the batch
     *     becomes a dead letter.
     * @param recovery Recovery of this collector type.
     */
    public record Collector(
            @Nullable Duration batchTimeout,
            @Nullable Integer maxRecoveryRetries,
            @Nullable Duration batchTtl,
            @Nullable Duration deadLetterTtl,
            @DefaultValue CollectorRecovery recovery) {

        static final Collector NONE = new Collector(
                null,
                null,
                null,
                null,
                new CollectorRecovery(null, null, null, null, null, null, null, null, null, null, null));

        // Not in the constructor: only the outer record knows the collector type and the common settings.
        private void check(String type, Duration commonTimeout, Duration commonTtl, Recovery common) {
            String key = "collectors." + type + ".";
            Duration timeout = or(batchTimeout, commonTimeout);
            Duration ttl = or(batchTtl, commonTtl);
            positive(timeout, key + "batch_timeout", "5m");
            atLeastOne(or(maxRecoveryRetries, 1), key + "max_recovery_retries", "10");
            positive(ttl, key + "batch_ttl", "24h");
            positive(or(deadLetterTtl, ttl), key + "dead_letter_ttl", "7d");
            if (timeout.compareTo(ttl) >= 0) {
                throw timeoutNotBelowTtl(
                        batchTimeout != null ? key + "batch_timeout" : "batch_timeout",
                        timeout,
                        batchTtl != null ? key + "batch_ttl" : "batch_ttl",
                        ttl);
            }
            checkRecovery(
                    key + "recovery.",
                    or(recovery.backoffBase, common.backoffBase),
                    or(recovery.backoffMultiplier, common.backoffMultiplier),
                    or(recovery.backoffMax, common.backoffMax),
                    or(recovery.jitter, common.jitter),
                    or(recovery.concurrency, common.concurrency),
                    or(recovery.maxRate, common.maxRate),
                    or(recovery.outageThreshold, common.outageThreshold),
                    or(recovery.maxRetryAfter, common.maxRetryAfter));
            if (Boolean.TRUE.equals(recovery.enabled) && !common.selects(type)) {
                throw new InvalidSettingException(
                        key + "recovery.enabled",
                        "is true, but "
                                + (common.excludeCollectorTypes.contains(type)
                                        ? "batch_persistence.recovery.exclude_collector_types names " + type
                                        : "batch_persistence.recovery.include_collector_types does not name " + type),
                        "Remove one of the two, or adapt the list.");
            }
        }
    }

    /**
     * Recovery of one collector type. A setting that is absent has the common value.
     *
     * @param enabled Whether batches of this collector type are sent again automatically.
     * @param backoffBase Delay before the second attempt of a batch of this collector type.
     * @param backoffMultiplier Growth of the delay from attempt to attempt.
     * @param backoffMax Maximum delay between two attempts.
     * @param jitter Share of every delay that is random, from 0 to 1.
     * @param concurrency Number of batches of this collector type that are sent at the same time.
     * @param maxRate Maximum number of batches of this collector type that are sent per second, 0 for no limit.
     * @param order Order in which the due batches of this collector type are sent.
     * @param outageThreshold Consecutive failures after which this collector is marked down and only probed, 0 for
     *     never.
     * @param maxRetryAfter Maximum delay that this collector can ask for. A longer one is reduced to this value and
     *     logged.
     * @param replayAfterOutage Whether its dead letters that used up their retries are replayed when an outage of this
     *     collector ends.
     */
    public record CollectorRecovery(
            @Nullable Boolean enabled,
            @Nullable Duration backoffBase,
            @Nullable Double backoffMultiplier,
            @Nullable Duration backoffMax,
            @Nullable Double jitter,
            @Nullable Integer concurrency,
            @Nullable Double maxRate,
            @Nullable BatchOrder order,
            @Nullable Integer outageThreshold,
            @Nullable Duration maxRetryAfter,
            @Nullable Boolean replayAfterOutage) {}

    private static <T> T or(@Nullable T value, T other) {
        return value != null ? value : other;
    }

    private static void checkCollectorType(String type, String key) {
        try {
            NewBatch.checkedCollectorType(type);
        } catch (IllegalArgumentException e) {
            throw new InvalidSettingException(
                    key, "has a name that no batch can have: " + e.getMessage(), "Set the name of a collector type.");
        }
    }

    private static void checkDirectory(String directory) {
        String action = "Set a path, for instance ./batch_persistence.";
        if (directory.isBlank()) {
            throw new InvalidSettingException("directory", "is blank, but batches must be kept somewhere", action);
        }
        try {
            var unused = Path.of(directory);
        } catch (InvalidPathException e) {
            throw new InvalidSettingException("directory", "is not a path on this system: " + e.getMessage(), action);
        }
    }

    private static void checkRecovery(
            String key,
            Duration backoffBase,
            double backoffMultiplier,
            Duration backoffMax,
            double jitter,
            int concurrency,
            double maxRate,
            int outageThreshold,
            Duration maxRetryAfter) {
        positive(backoffBase, key + "backoff_base", "1s");
        positive(maxRetryAfter, key + "max_retry_after", "1h");
        if (!(backoffMultiplier >= 1) || Double.isInfinite(backoffMultiplier)) {
            throw new InvalidSettingException(
                    key + "backoff_multiplier",
                    "is " + backoffMultiplier + ", but delays must not shrink",
                    "Set 1 for equal delays, or more, for instance 2.");
        }
        positive(backoffMax, key + "backoff_max", "5m");
        if (backoffMax.compareTo(backoffBase) < 0) {
            throw new InvalidSettingException(
                    key + "backoff_max",
                    "is " + text(backoffMax) + ", which is less than the " + key + "backoff_base of "
                            + text(backoffBase),
                    "Raise batch_persistence." + key + "backoff_max or lower batch_persistence." + key
                            + "backoff_base.");
        }
        if (!(jitter >= 0 && jitter <= 1)) {
            throw new InvalidSettingException(
                    key + "jitter", "is " + jitter + ", but must be from 0 to 1", "Set a share, for instance 0.5.");
        }
        atLeastOne(concurrency, key + "concurrency", "1");
        if (!(maxRate >= 0) || Double.isInfinite(maxRate)) {
            throw new InvalidSettingException(
                    key + "max_rate",
                    "is " + maxRate + ", but must not be negative",
                    "Set batches a second, or 0 for no limit.");
        }
        if (outageThreshold < 0) {
            throw new InvalidSettingException(
                    key + "outage_threshold",
                    "is " + outageThreshold + ", but must not be negative",
                    "Set a number of failures, for instance 3, or 0 for never.");
        }
    }

    private static void positive(Duration value, String key, String example) {
        if (value.isZero() || value.isNegative()) {
            throw new InvalidSettingException(
                    key,
                    "is " + text(value) + ", but must be longer than nothing",
                    "Set a duration, for instance " + example + ". A number without a unit is in milliseconds.");
        }
    }

    private static void notNegative(Duration value, String key, String example) {
        if (value.isNegative()) {
            throw new InvalidSettingException(
                    key,
                    "is " + text(value) + ", but must not be negative",
                    "Set a duration, for instance " + example + ". A number without a unit is in milliseconds.");
        }
    }

    private static void atLeastOne(long value, String key, String example) {
        if (value < 1) {
            throw new InvalidSettingException(
                    key, "is " + value + ", but must be at least 1", "Set a number, for instance " + example + ".");
        }
    }

    private static InvalidSettingException timeoutNotBelowTtl(
            String timeoutKey, Duration timeout, String ttlKey, Duration ttl) {
        return new InvalidSettingException(
                timeoutKey,
                "is " + text(timeout) + ", but batch_persistence." + ttlKey + " is " + text(ttl)
                        + ": a batch would be too old before its first attempt had timed out",
                "Lower batch_persistence." + timeoutKey + " or raise batch_persistence." + ttlKey + ".");
    }

    private static String word(Enum<?> value) {
        return value.name().toLowerCase(Locale.ROOT);
    }

    private static String text(Duration value) {
        long millis = value.toMillis();
        if (value.isZero() || millis % 1_000 != 0) {
            return millis + "ms";
        }
        long seconds = value.toSeconds();
        return seconds % 60 != 0 ? seconds + "s" : seconds % 3_600 != 0 ? seconds / 60 + "m" : seconds / 3_600 + "h";
    }
}
