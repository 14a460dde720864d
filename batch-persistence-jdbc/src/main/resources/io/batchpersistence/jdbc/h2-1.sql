-- Times are in milliseconds since 1970 on the database's clock. Texts are escaped as in the other databases: \\ for \,
-- \n and \r for line breaks, and \0 for the NUL character.

CREATE TABLE IF NOT EXISTS {p}batch (
  seq              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  batch_id         varchar(510) NOT NULL,
  collector_type   varchar(510) NOT NULL,
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
  reason           varchar(10000),
  earlier_failures varchar(100000) NOT NULL,
  entry_count      integer NOT NULL,
  bytes            bigint NOT NULL,
  format           smallint NOT NULL,
  compression      smallint NOT NULL,
  raw_length       integer NOT NULL,
  payload_crc      integer NOT NULL,
  header           blob NOT NULL,
  payload          blob NOT NULL,
  CONSTRAINT {i}batch_id UNIQUE (batch_id)
);

CREATE INDEX IF NOT EXISTS {i}batch_due ON {p}batch (collector_type, state, due_at);
CREATE INDEX IF NOT EXISTS {i}batch_seq ON {p}batch (collector_type, state, seq, due_at);
CREATE INDEX IF NOT EXISTS {i}batch_owner ON {p}batch (owner, due_at);
CREATE INDEX IF NOT EXISTS {i}batch_age ON {p}batch (state, collector_type, since);

CREATE TABLE IF NOT EXISTS {p}instance (
  id          bigint PRIMARY KEY,              -- random, never reused
  name        varchar(510) NOT NULL,
  application varchar(510) DEFAULT '' NOT NULL,     -- the name of the application; empty: unknown
  lease_millis bigint DEFAULT 30000 NOT NULL,
  seen_at     bigint NOT NULL,
  lease_until bigint NOT NULL,
  gone_at     bigint                           -- closed or lease expired at: its batches in flight are given back
);

CREATE TABLE IF NOT EXISTS {p}counter (
  collector_type    varchar(510) NOT NULL,
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
);

CREATE TABLE IF NOT EXISTS {p}lane (
  collector_type varchar(510) PRIMARY KEY,
  paused         smallint NOT NULL
);

CREATE TABLE IF NOT EXISTS {p}corrupt (
  seq            bigint PRIMARY KEY,
  batch_id       varchar(510) NOT NULL,
  collector_type varchar(510) NOT NULL,
  created_at     bigint NOT NULL,
  found_at       bigint NOT NULL,
  why            varchar(10000) NOT NULL,
  format         smallint NOT NULL,
  compression    smallint NOT NULL,
  raw_length     integer NOT NULL,
  payload_crc    integer NOT NULL,
  header         blob NOT NULL,
  payload        blob NOT NULL
);

-- Collectors that are down, shared by all instances.
CREATE TABLE IF NOT EXISTS {p}outage (
  collector_type varchar(510) PRIMARY KEY,
  since          bigint NOT NULL,
  next_probe_at  bigint NOT NULL,              -- while a probe is under way: when it times out
  probes         integer NOT NULL,             -- probes taken so far
  last_failure   varchar(10000) NOT NULL       -- the failure by which it was found to be down
);

CREATE TABLE IF NOT EXISTS {p}schema_version (version integer PRIMARY KEY);

INSERT INTO {p}schema_version (version) VALUES (1);
