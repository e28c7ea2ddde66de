-- The migrations this database has seen, oldest first.
SELECT version, name, sha256, applied_at
FROM schema_migrations
ORDER BY version
