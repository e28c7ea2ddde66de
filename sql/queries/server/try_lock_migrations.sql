-- Take the one lock that all migrating processes share, if it is free; it ends with the session.
SELECT pg_try_advisory_lock(7310489922384051) AS taken
