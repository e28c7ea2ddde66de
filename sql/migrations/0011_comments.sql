-- What the tables and columns mean, for \d+ in psql and for sql/schema.sql.

COMMENT ON TABLE devices IS 'who may upload';
COMMENT ON COLUMN devices.token_hash IS 'SHA-256 of the bearer token, in lower-case hex';
COMMENT ON COLUMN devices.last_seen_at IS 'when its last upload was accepted';

COMMENT ON TABLE audio_chunks IS 'accepted uploads: the file is durable before its row is written';
COMMENT ON COLUMN audio_chunks.chunk_id IS 'a UUIDv8 computed from the upload';
COMMENT ON COLUMN audio_chunks.file_path IS 'relative to AUDIO_STORAGE_DIR';
COMMENT ON COLUMN audio_chunks.status IS 'see sql/README.md';
COMMENT ON COLUMN audio_chunks.created_at IS 'when the upload was accepted';
COMMENT ON COLUMN audio_chunks.error_message IS 'why it is ERROR, or is tried again';
COMMENT ON COLUMN audio_chunks.processing_started_at IS 'NULL unless PROCESSING';
COMMENT ON COLUMN audio_chunks.sha256 IS 'NULL: a row of the earlier service';
COMMENT ON COLUMN audio_chunks.attempts IS 'how often it was taken; the fence of a lease';
COMMENT ON COLUMN audio_chunks.attempts_forgiven IS 'those before an operator''s last requeue';
COMMENT ON COLUMN audio_chunks.worker IS 'who has it, or had it last; NULL: plain SQL';
COMMENT ON COLUMN audio_chunks.lease_expires_at IS 'NULL: no lease';
COMMENT ON COLUMN audio_chunks.finished_at IS 'NULL unless DONE or ERROR';
COMMENT ON COLUMN audio_chunks.file_missing_since IS 'when fsck missed its file; NULL: it has not';
COMMENT ON COLUMN audio_chunks.status_before IS 'what to restore when the file returns';
COMMENT ON COLUMN audio_chunks.error_message_before IS 'likewise';

COMMENT ON TABLE pruned_chunks IS 'chunks that retention removed, remembered for a week';
COMMENT ON COLUMN pruned_chunks.attempts IS 'to go on from, should the chunk be sent again';

COMMENT ON TABLE schema_migrations IS 'the files of sql/migrations that were applied';
COMMENT ON COLUMN schema_migrations.sha256 IS 'of the file, which is never edited';
