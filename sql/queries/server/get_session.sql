-- Who this session is, in which database, and which connection limits apply to it.
SELECT
    pg_roles.rolname AS role,
    pg_database.datname AS database,
    pg_roles.rolsuper AS is_superuser,
    pg_roles.rolconnlimit AS role_connection_limit,
    pg_database.datconnlimit AS database_connection_limit,
    pg_is_in_recovery() AS in_recovery
FROM pg_roles CROSS JOIN pg_database
WHERE pg_roles.rolname = session_user AND pg_database.datname = current_database()
