-- Wait for the one lock that all migrating processes share; it ends with the session.
SELECT pg_advisory_lock(7310489922384051)
