-- Who else is connected to this database. (Of others' sessions not everybody may see more.)
SELECT format('pid %%s (%%s%%s)', pid, usename, ', ' || nullif(application_name, '')) AS session
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
ORDER BY pid
