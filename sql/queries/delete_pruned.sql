-- Forget marked chunks whose files are removed, but for their ids, so that a worker can be told.
WITH deleted AS (
    DELETE FROM audio_chunks
    WHERE chunk_id = ANY(%(chunk_ids)s) AND status = 'PRUNED'
    RETURNING chunk_id
)
INSERT INTO pruned_chunks (chunk_id)
SELECT chunk_id FROM deleted
ON CONFLICT (chunk_id) DO UPDATE SET pruned_at = now()
