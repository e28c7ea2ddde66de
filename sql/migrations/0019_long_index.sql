-- migrate: no transaction
-- The few long recordings. What overlaps with a time may begin long before it: of the others, two
-- minutes at most.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_long
    ON audio_chunks (start_ts)
    WHERE end_ts - start_ts > interval '2 minutes';
