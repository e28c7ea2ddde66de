-- One chunk by its id, with how its processing stands.
SELECT chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at,
    attempts, worker, processing_started_at, lease_expires_at, error_message, finished_at
FROM audio_chunks
WHERE chunk_id = %(chunk_id)s
