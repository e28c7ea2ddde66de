-- Give up on chunks whose files are gone, so that no worker is sent for them.
UPDATE audio_chunks
SET status = 'ERROR', error_message = %(error_message)s, processing_started_at = NULL
WHERE chunk_id = ANY(%(chunk_ids)s) AND status <> 'PRUNED'
RETURNING chunk_id
