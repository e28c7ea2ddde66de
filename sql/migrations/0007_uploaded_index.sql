-- migrate: no transaction
-- What is still to be announced in Redis; empty without Redis.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_uploaded
    ON audio_chunks (start_ts)
    WHERE status = 'UPLOADED';
