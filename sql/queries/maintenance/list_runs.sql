-- When each maintenance command was last complete.
SELECT name, finished_at
FROM maintenance_runs
