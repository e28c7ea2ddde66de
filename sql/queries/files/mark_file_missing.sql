-- Give up a chunk whose file is gone, unless a worker holds it; the trigger keeps what it was.
UPDATE audio_chunks
SET status = 'ERROR', file_missing_since = now(), lease_expires_at = NULL
WHERE chunk_id = (
    SELECT chunk_id
    FROM audio_chunks
    WHERE chunk_id = %(chunk_id)s
        AND status <> 'PRUNED'
        AND file_missing_since IS NULL
        AND (lease_expires_at IS NULL OR lease_expires_at < now())
    FOR UPDATE SKIP LOCKED
)
RETURNING chunk_id
