-- Lease waiting chunks to a worker, oldest recordings first; in a crowd, some by the devices in turn.
WITH RECURSIVE
crowd AS (
    SELECT
    FROM audio_chunks
    WHERE status = 'QUEUED' AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
    OFFSET %(crowd)s
    LIMIT 1
),
turn AS (
    SELECT %(after_point)s::uuid AS point_id, %(after_device)s::uuid AS device_id, 0 AS place
    FROM crowd
    UNION ALL
    SELECT next.point_id, next.device_id, turn.place + 1
    FROM turn CROSS JOIN LATERAL (
        SELECT point_id, device_id
        FROM audio_chunks
        WHERE status = 'QUEUED'
            AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
            AND (point_id, device_id) > (turn.point_id, turn.device_id)
        ORDER BY point_id, device_id
        LIMIT 1
    ) AS next
    WHERE turn.place < %(in_turn)s
),
heads AS (
    SELECT head.chunk_id
    FROM turn CROSS JOIN LATERAL (
        SELECT chunk_id
        FROM audio_chunks
        WHERE status = 'QUEUED' AND point_id = turn.point_id AND device_id = turn.device_id
        ORDER BY start_ts
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS head
    WHERE turn.place > 0
),
oldest AS (
    SELECT chunk_id
    FROM audio_chunks
    WHERE status = 'QUEUED'
        AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
        AND chunk_id NOT IN (SELECT chunk_id FROM heads)
    ORDER BY start_ts
    LIMIT %(limit)s - (SELECT count(*) FROM heads)
    FOR UPDATE SKIP LOCKED
)
UPDATE audio_chunks
SET status = 'PROCESSING',
    worker = %(worker)s,
    processing_started_at = now(),
    lease_expires_at = now() + %(lease)s
WHERE chunk_id = ANY(ARRAY(SELECT chunk_id FROM heads UNION ALL SELECT chunk_id FROM oldest))
RETURNING chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at,
    attempts, worker, processing_started_at, lease_expires_at, error_message, finished_at,
    (SELECT point_id FROM turn ORDER BY place DESC LIMIT 1) AS turn_point_id,
    (SELECT device_id FROM turn ORDER BY place DESC LIMIT 1) AS turn_device_id
