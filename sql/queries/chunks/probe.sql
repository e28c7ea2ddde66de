-- Find out whether an upload could be recorded now, by recording none: the rights, a transaction id,
-- and a commit that waits for the disk and for a synchronous standby.
WITH
seen AS (
    UPDATE devices SET last_seen_at = now() WHERE false
),
inserted AS (
    INSERT INTO audio_chunks (chunk_id) SELECT chunk_id FROM audio_chunks WHERE false
)
SELECT pg_logical_emit_message(true, 'ingest_api', 'probe') AS written_at
