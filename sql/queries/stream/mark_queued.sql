-- Chunks that were announced become QUEUED, but not those that somebody is just moving.
UPDATE audio_chunks
SET status = 'QUEUED'
WHERE chunk_id IN (
    SELECT chunk_id
    FROM audio_chunks
    WHERE chunk_id = ANY(%(chunk_ids)s) AND status = 'UPLOADED'
    FOR UPDATE SKIP LOCKED
)
