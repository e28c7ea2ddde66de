-- A name for what this transaction sees, under which pg_dump can see the same.
SELECT pg_export_snapshot() AS snapshot
