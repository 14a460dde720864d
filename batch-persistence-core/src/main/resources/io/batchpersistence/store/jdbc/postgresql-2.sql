-- Collectors that are down, known to all instances. What version 1 reads and writes is as it was.

CREATE TABLE IF NOT EXISTS {p}outage (
  collector_type varchar(510) COLLATE "C" PRIMARY KEY,
  since          bigint NOT NULL,
  next_probe_at  bigint NOT NULL,              -- while a probe is out: when it is given up
  probes         integer NOT NULL,             -- taken so far
  last_failure   text COLLATE "C" NOT NULL     -- when it was found to be down
);

-- People look at dead letters, and mostly at the latest ones first, while others may be pending by the million.
CREATE INDEX IF NOT EXISTS {i}batch_dead ON {p}batch (seq) WHERE state = 2;

INSERT INTO {p}schema_version (version) VALUES (2);
