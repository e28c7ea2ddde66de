-- The relations that pg_dump could not read as this role: those of others, such as a worker's table.
SELECT nspname AS schema, relname AS name
FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p', 'm', 'S', 'f')
    AND nspname <> 'information_schema'
    AND nspname NOT LIKE 'pg\_%%'
    AND NOT (
        has_schema_privilege(pg_namespace.oid, 'USAGE')
        AND has_table_privilege(pg_class.oid, 'SELECT')
        AND NOT row_security_active(pg_class.oid)
    )
ORDER BY nspname, relname
