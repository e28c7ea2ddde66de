-- Which other sessions have our tables in a transaction, the longest first.
SELECT format('pid %%s (%%s, since %%s)', pid, application_name, xact_start::timestamptz(0)) AS holder
FROM pg_stat_activity
WHERE pid <> pg_backend_pid()
    AND pid IN (
        SELECT pid
        FROM pg_locks
        WHERE granted AND relation IN (to_regclass('audio_chunks'), to_regclass('devices'))
    )
ORDER BY xact_start
