-- Mark announced chunks QUEUED, except those that another session is changing.
UPDATE audio_chunks
SET status = 'QUEUED'
WHERE chunk_id = ANY(ARRAY(
    SELECT chunk_id
    FROM audio_chunks
    WHERE chunk_id = ANY(%(chunk_ids)s) AND status = 'UPLOADED'
    FOR UPDATE SKIP LOCKED
))
