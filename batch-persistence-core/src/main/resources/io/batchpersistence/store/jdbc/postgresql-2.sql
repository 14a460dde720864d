-- People look at dead letters, and mostly at the latest ones first, while others may be pending by the million.
CREATE INDEX IF NOT EXISTS {i}batch_dead ON {p}batch (seq) WHERE state = 2;

INSERT INTO {p}schema_version (version) VALUES (2);
