-- Give up on a chunk whose file is gone, and keep in mind what it was; not one that a worker holds.
UPDATE audio_chunks
SET status = 'ERROR',
    error_message = 'file missing (was ' || status || coalesce(': ' || error_message, '') || ')',
    lease_expires_at = NULL
WHERE chunk_id = (
    SELECT chunk_id
    FROM audio_chunks
    WHERE chunk_id = %(chunk_id)s
        AND status <> 'PRUNED'
        AND (lease_expires_at IS NULL OR lease_expires_at < now())
    FOR UPDATE SKIP LOCKED
)
RETURNING chunk_id
