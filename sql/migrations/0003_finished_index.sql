-- migrate: no transaction
-- For retention: what is done with, by the time it came. Uploads go on while it is built.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_finished
    ON audio_chunks (status, created_at)
    WHERE status IN ('DONE', 'ERROR', 'PRUNED');
