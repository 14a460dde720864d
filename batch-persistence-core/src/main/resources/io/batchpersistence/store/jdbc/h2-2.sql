-- Collectors that are down, known to all instances. What version 1 reads and writes is as it was.

CREATE TABLE IF NOT EXISTS {p}outage (
  collector_type varchar(510) PRIMARY KEY,
  since          bigint NOT NULL,
  next_probe_at  bigint NOT NULL,              -- while a probe is out: when it is given up
  probes         integer NOT NULL,             -- taken so far
  last_failure   varchar(10000) NOT NULL       -- when it was found to be down
);

-- An index of some rows only, as in the script for PostgreSQL, does not exist here.

INSERT INTO {p}schema_version (version) VALUES (2);
