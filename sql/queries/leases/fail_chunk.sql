-- Return a chunk that its worker could not process to the queue, or give it up.
UPDATE audio_chunks
SET status = CASE
        WHEN %(retry)s AND attempts - attempts_forgiven < %(max_attempts)s THEN 'QUEUED'
        ELSE 'ERROR'
    END,
    error_message = %(message)s,
    lease_expires_at = NULL
WHERE chunk_id = (
    SELECT chunk_id
    FROM audio_chunks
    WHERE chunk_id = %(chunk_id)s
        AND status = 'PROCESSING'
        AND attempts = %(attempt)s
        AND lease_expires_at IS NOT NULL
    FOR UPDATE SKIP LOCKED
)
RETURNING chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at,
    attempts, worker, processing_started_at, lease_expires_at, error_message, finished_at
