-- Which sessions a migrating one waits for, the longest first: by a lock, or as the one that migrates.
SELECT format(
    'pid %%s (%%s, role %%s, since %%s: %%s)',
    pid,
    coalesce(nullif(application_name, ''), 'no name'),
    usename,
    coalesce(xact_start, state_change)::timestamptz(0),
    left(regexp_replace(query, '\s+', ' ', 'g'), 200)
) AS blocker
FROM pg_stat_activity
WHERE pid = ANY(pg_blocking_pids(%(pid)s))
    OR pid IN (
        SELECT pid
        FROM pg_locks
        WHERE locktype = 'advisory'
            AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND (classid::bigint << 32) + objid::bigint = 7310489922384051
            AND pid <> %(pid)s
    )
ORDER BY coalesce(xact_start, state_change)
