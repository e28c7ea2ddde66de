-- Forget marked chunks whose files are removed.
DELETE FROM audio_chunks
WHERE chunk_id = ANY(%(chunk_ids)s) AND status = 'PRUNED'
