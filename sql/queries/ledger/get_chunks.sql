-- What is known of chunks, as JSON and CSV show it, in the order of recording.
SELECT device_id::text, point_id::text, register_id::text,
    replace(to_char(start_ts, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', '') AS start_ts,
    replace(to_char(end_ts, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', '') AS end_ts,
    codec, sample_rate, channels, chunk_id::text, duration_sec, file_path, file_size_bytes,
    encode(sha256, 'hex') AS sha256, status,
    replace(to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', '') AS created_at,
    attempts, worker,
    replace(to_char(processing_started_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', '')
        AS processing_started_at,
    replace(to_char(lease_expires_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', '')
        AS lease_expires_at,
    error_message,
    replace(to_char(finished_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000', '') AS finished_at
FROM audio_chunks
WHERE chunk_id = ANY(%(chunk_ids)s)
ORDER BY audio_chunks.start_ts ASC, audio_chunks.chunk_id ASC
