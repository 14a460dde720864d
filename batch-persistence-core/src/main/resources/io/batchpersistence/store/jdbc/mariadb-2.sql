-- Collectors that are down, shared by all instances. What version 1 reads and writes is unchanged.

CREATE TABLE IF NOT EXISTS {p}outage (
  collector_type varbinary(765) PRIMARY KEY,
  since          bigint NOT NULL,
  next_probe_at  bigint NOT NULL,              -- while a probe is under way: when it times out
  probes         integer NOT NULL,             -- probes taken so far
  last_failure   mediumblob NOT NULL           -- the failure by which it was found to be down
) ENGINE = InnoDB;

-- The partial index of the script for PostgreSQL is missing here: this database has no partial indexes.

INSERT INTO {p}schema_version (version) VALUES (2);
