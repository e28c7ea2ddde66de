-- migrate: no transaction
-- The chunks whose file is missing, by recording: the coverage of a device reads them, whatever else
-- the table holds.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_file_missing
    ON audio_chunks (device_id, start_ts)
    WHERE file_missing_since IS NOT NULL;
