-- migrate: no transaction
-- What is in work: small, and of no column that a lease renews, so that renewing touches no index.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_processing
    ON audio_chunks (start_ts)
    WHERE status = 'PROCESSING';
