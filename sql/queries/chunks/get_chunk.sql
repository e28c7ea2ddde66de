-- One chunk by its id.
SELECT chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at
FROM audio_chunks
WHERE chunk_id = %(chunk_id)s
