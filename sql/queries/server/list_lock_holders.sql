-- Which other sessions have our tables in a transaction, the longest first.
SELECT format(
    'pid %%s (%%s, role %%s, since %%s: %%s)',
    pid,
    coalesce(nullif(application_name, ''), 'no name'),
    usename,
    xact_start::timestamptz(0),
    left(regexp_replace(query, '\s+', ' ', 'g'), 200)
) AS holder
FROM pg_stat_activity
WHERE pid <> pg_backend_pid()
    AND pid IN (
        SELECT pid
        FROM pg_locks
        WHERE granted
            AND relation IN (
                to_regclass('audio_chunks'), to_regclass('devices'), to_regclass('pruned_chunks')
            )
    )
ORDER BY xact_start
