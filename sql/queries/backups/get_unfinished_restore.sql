-- The SHA-256 of the dump, in hex, of which a restore into this database has begun and not ended.
SELECT obj_description(to_regclass('restore_unfinished'), 'pg_class') AS dump_sha256
