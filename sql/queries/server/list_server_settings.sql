-- The server settings that the promise and the pools depend on, as this session has them.
SELECT name, setting AS value, source
FROM pg_settings
WHERE name IN (
    'data_checksums', 'default_transaction_read_only', 'fsync', 'full_page_writes',
    'max_connections', 'reserved_connections', 'superuser_reserved_connections',
    'session_replication_role', 'synchronous_commit'
)
