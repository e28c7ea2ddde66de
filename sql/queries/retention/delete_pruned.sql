-- Forget marked chunks whose files are removed, but for their ids and attempts.
WITH deleted AS (
    DELETE FROM audio_chunks
    WHERE chunk_id = ANY(%(chunk_ids)s) AND status = 'PRUNED'
    RETURNING chunk_id, attempts
)
INSERT INTO pruned_chunks (chunk_id, attempts)
SELECT chunk_id, attempts FROM deleted
ON CONFLICT (chunk_id) DO UPDATE
    SET pruned_at = now(), attempts = greatest(pruned_chunks.attempts, EXCLUDED.attempts)
