-- The next page of unfinished chunks, from the index of each status: for a Redis that forgot.
SELECT chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at
FROM audio_chunks
WHERE chunk_id = ANY(ARRAY(
    (
        SELECT chunk_id FROM audio_chunks
        WHERE status = 'QUEUED' AND (start_ts, chunk_id) > (%(after_time)s, %(after_id)s)
        ORDER BY start_ts, chunk_id LIMIT %(page)s
    )
    UNION ALL
    (
        SELECT chunk_id FROM audio_chunks
        WHERE status = 'PROCESSING' AND (start_ts, chunk_id) > (%(after_time)s, %(after_id)s)
        ORDER BY start_ts, chunk_id LIMIT %(page)s
    )
    UNION ALL
    (
        SELECT chunk_id FROM audio_chunks
        WHERE status = 'UPLOADED' AND (start_ts, chunk_id) > (%(after_time)s, %(after_id)s)
        ORDER BY start_ts, chunk_id LIMIT %(page)s
    )
))
ORDER BY start_ts, chunk_id
LIMIT %(page)s
