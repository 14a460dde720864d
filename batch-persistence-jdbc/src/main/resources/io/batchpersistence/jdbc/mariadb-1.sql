-- Times are in milliseconds since 1970 on the database's clock. Texts are escaped as in the other databases: \\ for \,
-- \n and \r for line breaks, and \0 for the NUL character.
-- Names are binary (UTF-8), so that only identical ones are equal.

CREATE TABLE IF NOT EXISTS {p}batch (
  seq              bigint AUTO_INCREMENT PRIMARY KEY,
  batch_id         varbinary(765) NOT NULL,
  collector_type   varbinary(765) NOT NULL,
  state            smallint NOT NULL,          -- 0 pending, 1 in flight, 2 dead
  owner            bigint,                     -- the instance that has it in flight
  fence            bigint NOT NULL,            -- the claim by which that instance has it
  created_at       bigint NOT NULL,
  since            bigint NOT NULL,            -- when its age begins: persisted, replayed or made a dead letter
  batch_ttl        bigint DEFAULT 0 NOT NULL,  -- kept at least this long (ms) after 'since', set by its application
  dead_letter_ttl  bigint DEFAULT 0 NOT NULL,  -- the same for a dead letter
  due_at           bigint,                     -- next attempt, or end of the lease; null: not retried automatically
  last_attempt     bigint,
  retry_count      integer NOT NULL,
  reason           mediumblob,
  earlier_failures mediumblob NOT NULL,
  entry_count      integer NOT NULL,
  bytes            bigint NOT NULL,
  format           smallint NOT NULL,
  compression      smallint NOT NULL,
  raw_length       integer NOT NULL,
  payload_crc      integer NOT NULL,
  header           longblob NOT NULL,
  payload          longblob NOT NULL,
  UNIQUE KEY batch_id (batch_id),
  KEY due (collector_type, state, due_at),
  KEY seq (collector_type, state, seq, due_at),
  KEY owner (owner, due_at),
  KEY age (state, collector_type, since)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {p}instance (
  id          bigint PRIMARY KEY,              -- random, never reused
  name        varbinary(765) NOT NULL,
  application varbinary(765) DEFAULT '' NOT NULL,     -- the name of the application; empty: unknown
  lease_millis bigint DEFAULT 30000 NOT NULL,
  seen_at     bigint NOT NULL,
  lease_until bigint NOT NULL,
  gone_at     bigint                           -- closed or lease expired at: its batches in flight are given back
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {p}counter (
  collector_type    varbinary(765) NOT NULL,
  instance          bigint NOT NULL,           -- 0: counters of instances that are gone
  part              bigint NOT NULL,           -- 0: main; -1: claims; others: one per joined business transaction
  token             bigint NOT NULL,           -- of the last group written
  accepted          bigint NOT NULL,
  delivered         bigint NOT NULL,
  expired           bigint NOT NULL,
  evicted           bigint NOT NULL,
  discarded         bigint NOT NULL,
  corrupt           bigint NOT NULL,
  pending           bigint NOT NULL,
  pending_entries   bigint NOT NULL,
  pending_bytes     bigint NOT NULL,
  in_flight         bigint NOT NULL,
  in_flight_entries bigint NOT NULL,
  in_flight_bytes   bigint NOT NULL,
  dead              bigint NOT NULL,
  dead_entries      bigint NOT NULL,
  dead_bytes        bigint NOT NULL,
  PRIMARY KEY (instance, part, collector_type)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {p}lane (
  collector_type varbinary(765) PRIMARY KEY,
  paused         smallint NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {p}corrupt (
  seq            bigint PRIMARY KEY,
  batch_id       varbinary(765) NOT NULL,
  collector_type varbinary(765) NOT NULL,
  created_at     bigint NOT NULL,
  found_at       bigint NOT NULL,
  why            mediumblob NOT NULL,
  format         smallint NOT NULL,
  compression    smallint NOT NULL,
  raw_length     integer NOT NULL,
  payload_crc    integer NOT NULL,
  header         longblob NOT NULL,
  payload        longblob NOT NULL
) ENGINE = InnoDB;

-- Collectors that are down, shared by all instances.
CREATE TABLE IF NOT EXISTS {p}outage (
  collector_type varbinary(765) PRIMARY KEY,
  since          bigint NOT NULL,
  next_probe_at  bigint NOT NULL,              -- while a probe is under way: when it times out
  probes         integer NOT NULL,             -- probes taken so far
  last_failure   mediumblob NOT NULL           -- the failure by which it was found to be down
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS {p}schema_version (version integer PRIMARY KEY) ENGINE = InnoDB;

INSERT INTO {p}schema_version (version) VALUES (1);
