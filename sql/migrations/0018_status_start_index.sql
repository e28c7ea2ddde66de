-- migrate: no transaction
-- The chunks of each status by recording: a page of a list begins where the last one ended.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_status_start
    ON audio_chunks (status, start_ts, chunk_id) INCLUDE (end_ts);
