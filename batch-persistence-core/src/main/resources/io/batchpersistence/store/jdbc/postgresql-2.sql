-- Collectors that are down, shared by all instances. What version 1 reads and writes is unchanged.

CREATE TABLE IF NOT EXISTS {p}outage (
  collector_type varchar(510) COLLATE "C" PRIMARY KEY,
  since          bigint NOT NULL,
  next_probe_at  bigint NOT NULL,              -- while a probe is under way: when it times out
  probes         integer NOT NULL,             -- probes taken so far
  last_failure   text COLLATE "C" NOT NULL     -- the failure by which it was found to be down
);

-- For operators who list dead letters, mostly the latest ones first, while millions of other batches may be pending.
CREATE INDEX IF NOT EXISTS {i}batch_dead ON {p}batch (seq) WHERE state = 2;

INSERT INTO {p}schema_version (version) VALUES (2);
