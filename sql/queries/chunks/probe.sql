-- Find out whether an upload could be recorded now, by recording none.
WITH seen AS (
    UPDATE devices SET last_seen_at = now() WHERE false
)
INSERT INTO audio_chunks (chunk_id) SELECT chunk_id FROM audio_chunks WHERE false
