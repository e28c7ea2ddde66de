-- migrate: no transaction
-- What was finished when, for `flask ingest queue`.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_finished_at
    ON audio_chunks (finished_at)
    WHERE finished_at IS NOT NULL;
