-- An index of some rows only, as in the script for PostgreSQL, does not exist here.
INSERT INTO {p}schema_version (version) VALUES (2);
