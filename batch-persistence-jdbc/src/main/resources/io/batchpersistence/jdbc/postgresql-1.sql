-- Times are in milliseconds since 1970 on the database's clock. Texts are escaped: \\ for \, \n and \r for line breaks,
-- and \0 for the NUL character, which PostgreSQL can't store.

CREATE TABLE IF NOT EXISTS {p}batch (
  seq              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  batch_id         varchar(510) COLLATE "C" NOT NULL,
  collector_type   varchar(510) COLLATE "C" NOT NULL,
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
  reason           text COLLATE "C",
  earlier_failures text COLLATE "C" NOT NULL,
  entry_count      integer NOT NULL,
  bytes            bigint NOT NULL,
  format           smallint NOT NULL,
  compression      smallint NOT NULL,
  raw_length       integer NOT NULL,
  payload_crc      integer NOT NULL,
  header           bytea NOT NULL,
  payload          bytea NOT NULL,
  CONSTRAINT {i}batch_id UNIQUE (batch_id)
) WITH (toast_tuple_target = 128, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2);

-- A payload that makes its row longer than 2 kB is stored out of line, not compressed by PostgreSQL (it already is),
-- so that a change of state writes a short row and not the payload again. Everything else stays in the row.
ALTER TABLE {p}batch ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE {p}batch ALTER COLUMN header SET STORAGE MAIN;
ALTER TABLE {p}batch ALTER COLUMN batch_id SET STORAGE MAIN;
ALTER TABLE {p}batch ALTER COLUMN collector_type SET STORAGE MAIN;
ALTER TABLE {p}batch ALTER COLUMN reason SET STORAGE MAIN;
ALTER TABLE {p}batch ALTER COLUMN earlier_failures SET STORAGE MAIN;

CREATE INDEX IF NOT EXISTS {i}batch_due ON {p}batch (collector_type, due_at) WHERE state = 0;
CREATE INDEX IF NOT EXISTS {i}batch_seq ON {p}batch (collector_type, seq, due_at) WHERE state = 0;
CREATE INDEX IF NOT EXISTS {i}batch_owner ON {p}batch (owner, due_at) WHERE state = 1;
CREATE INDEX IF NOT EXISTS {i}batch_age ON {p}batch (state, collector_type, since);
-- For operators who list dead letters, mostly the latest ones first, while millions of other batches may be pending.
CREATE INDEX IF NOT EXISTS {i}batch_dead ON {p}batch (seq) WHERE state = 2;

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
  collector_type    varchar(510) COLLATE "C" NOT NULL,
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
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS {p}lane (
  collector_type varchar(510) COLLATE "C" PRIMARY KEY,
  paused         smallint NOT NULL
);

CREATE TABLE IF NOT EXISTS {p}corrupt (
  seq            bigint PRIMARY KEY,
  batch_id       varchar(510) COLLATE "C" NOT NULL,
  collector_type varchar(510) COLLATE "C" NOT NULL,
  created_at     bigint NOT NULL,
  found_at       bigint NOT NULL,
  why            text NOT NULL,
  format         smallint NOT NULL,
  compression    smallint NOT NULL,
  raw_length     integer NOT NULL,
  payload_crc    integer NOT NULL,
  header         bytea NOT NULL,
  payload        bytea NOT NULL
);

-- Collectors that are down, shared by all instances.
CREATE TABLE IF NOT EXISTS {p}outage (
  collector_type varchar(510) COLLATE "C" PRIMARY KEY,
  since          bigint NOT NULL,
  next_probe_at  bigint NOT NULL,              -- while a probe is under way: when it times out
  probes         integer NOT NULL,             -- probes taken so far
  last_failure   text COLLATE "C" NOT NULL     -- the failure by which it was found to be down
);

CREATE TABLE IF NOT EXISTS {p}schema_version (version integer PRIMARY KEY);

INSERT INTO {p}schema_version (version) VALUES (1);
