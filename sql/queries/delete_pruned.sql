-- Forget marked chunks. Until this is committed, an upload of the same chunk waits.
DELETE FROM audio_chunks
WHERE chunk_id = ANY(%(chunk_ids)s) AND status = 'PRUNED'
RETURNING chunk_id, file_path, file_size_bytes, start_ts
