-- The next page of chunks to announce, except those so new that their upload is about to do it.
SELECT chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at
FROM audio_chunks
WHERE status = 'UPLOADED'
    AND created_at < now() - %(age)s::interval
    AND (start_ts, chunk_id) > (%(after_time)s, %(after_id)s)
ORDER BY start_ts, chunk_id
LIMIT %(page)s
