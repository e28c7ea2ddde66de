-- The tables, views and sequences of this database, except PostgreSQL's own, those of extensions, and
-- the mark of an unfinished restore.
SELECT pg_class.oid::regclass::text AS relation
FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    AND nspname NOT IN ('pg_catalog', 'information_schema')
    AND nspname NOT LIKE 'pg\_%%'
    AND pg_class.oid IS DISTINCT FROM to_regclass('restore_unfinished')
    AND NOT EXISTS (
        SELECT
        FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
    )
ORDER BY relation
