-- What has kept PostgreSQL from removing dead rows for a long time: sessions with an open snapshot and
-- prepared transactions. Those of other roles are shown to members of pg_read_all_stats alone.
SELECT format(
    'pid %%s (%%s, role %%s) since %%s',
    pid,
    coalesce(nullif(application_name, ''), 'no name'),
    usename,
    xact_start::timestamptz(0)
) AS holder
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND backend_xmin IS NOT NULL AND xact_start < now() - %(age)s::interval
UNION ALL
SELECT format('the prepared transaction %%s (role %%s) since %%s', gid, owner, prepared::timestamptz(0))
FROM pg_prepared_xacts
WHERE prepared < now() - %(age)s::interval
ORDER BY holder
