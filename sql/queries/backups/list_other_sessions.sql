-- Who else is connected to this database. (An ordinary role may see no more of others' sessions.)
SELECT format('pid %%s (%%s%%s)', pid, usename, ', ' || nullif(application_name, '')) AS session
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
ORDER BY pid
