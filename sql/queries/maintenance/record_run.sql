-- Record that a maintenance command is complete.
INSERT INTO maintenance_runs (name, finished_at)
VALUES (%(name)s, now())
ON CONFLICT (name) DO UPDATE SET finished_at = excluded.finished_at
