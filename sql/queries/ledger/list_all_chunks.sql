-- A page of all chunks, the oldest recording first: those after a certain one. It merges the chunks of each
-- status, because an index has those in this order.
WITH RECURSIVE
statuses AS (  -- each that there is, found without reading the others' rows
    (SELECT status FROM audio_chunks ORDER BY status LIMIT 1)
    UNION ALL
    SELECT (SELECT status FROM audio_chunks WHERE status > statuses.status ORDER BY status LIMIT 1)
    FROM statuses
    WHERE status IS NOT NULL
),
listed AS MATERIALIZED (
    SELECT chunk_id
    FROM statuses
    CROSS JOIN LATERAL (
        SELECT start_ts, chunk_id
        FROM audio_chunks
        WHERE audio_chunks.status = statuses.status
            AND (%(recorded_until)s::timestamptz IS NULL OR start_ts < %(recorded_until)s)
            AND (%(recorded_from)s::timestamptz IS NULL
                 OR start_ts > %(recorded_from)s::timestamptz - interval '24 hours')
            AND (%(recorded_from)s::timestamptz IS NULL
                 OR start_ts >= %(recorded_from)s
                 OR believed_end(start_ts, end_ts) > %(recorded_from)s)
            AND (%(after_ts)s::timestamptz IS NULL
                 OR (start_ts, chunk_id) > (%(after_ts)s, %(after_id)s::uuid))
        ORDER BY start_ts, chunk_id
        LIMIT %(page)s
    ) AS chunk
    ORDER BY start_ts, chunk_id
    LIMIT %(page)s
)
SELECT chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at,
    attempts, worker, processing_started_at, lease_expires_at, error_message, finished_at
FROM listed
JOIN audio_chunks USING (chunk_id)
ORDER BY start_ts, chunk_id
