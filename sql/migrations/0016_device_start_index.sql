-- migrate: no transaction
-- The recordings of a device, with their ends and in the order of lists: so its gaps are found, and
-- its pages read, from the index alone. 0017 gives it the name of the one that it replaces.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_device_interval
    ON audio_chunks (device_id, start_ts, chunk_id) INCLUDE (end_ts);
