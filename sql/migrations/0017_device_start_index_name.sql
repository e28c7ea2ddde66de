-- An index by this name is part of the specification. 0016 has built the one that replaces it. This
-- locks the table for a moment.
DROP INDEX IF EXISTS ix_audio_chunks_device_start;
ALTER INDEX ix_audio_chunks_device_interval RENAME TO ix_audio_chunks_device_start;
