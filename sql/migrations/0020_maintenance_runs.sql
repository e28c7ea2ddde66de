-- When maintenance was last complete: `GET /metrics` tells how long ago.
CREATE TABLE IF NOT EXISTS maintenance_runs (
    name text PRIMARY KEY,
    finished_at timestamptz NOT NULL
);

COMMENT ON TABLE maintenance_runs IS 'when each maintenance command was last complete';
COMMENT ON COLUMN maintenance_runs.name IS 'backup or fsck';
