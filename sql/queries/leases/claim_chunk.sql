-- Lease one chunk, given by its id, to a worker, if it is waiting.
UPDATE audio_chunks
SET status = 'PROCESSING',
    worker = %(worker)s,
    processing_started_at = now(),
    lease_expires_at = now() + %(lease)s
WHERE chunk_id = (
    SELECT chunk_id
    FROM audio_chunks
    WHERE chunk_id = %(chunk_id)s AND status IN ('UPLOADED', 'QUEUED')
    FOR UPDATE SKIP LOCKED
)
RETURNING chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at,
    attempts, worker, processing_started_at, lease_expires_at, error_message, finished_at
