-- Where the recordings of devices do not follow each other: each one before which a minute is missing, or
-- which overlaps with one before it; and of each device the first and, without a start, the end of all.
WITH
lost AS (
    SELECT chunk_id
    FROM audio_chunks
    WHERE file_missing_since IS NOT NULL
        AND device_id = ANY(%(device_ids)s)
        AND start_ts > %(start)s::timestamptz - interval '24 hours'
        AND start_ts < %(end)s
),
recordings AS (
    SELECT
        device_id, start_ts, end_ts,
        max(end_ts) OVER all_before AS before_ts,
        lead(start_ts) OVER by_start IS NULL AS is_last
    FROM unnest(%(device_ids)s::uuid[]) AS device (device_id)
    CROSS JOIN LATERAL (
        SELECT start_ts, believed_end(start_ts, end_ts) AS end_ts, chunk_id
        FROM audio_chunks
        WHERE audio_chunks.device_id = device.device_id
            AND start_ts > %(start)s::timestamptz - interval '24 hours'
            AND start_ts < %(end)s
            AND chunk_id NOT IN (SELECT chunk_id FROM lost)
        ORDER BY start_ts, chunk_id  -- as the index has them
    ) AS chunk
    WINDOW
        by_start AS (PARTITION BY device_id ORDER BY start_ts, chunk_id),
        all_before AS (by_start ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
)
SELECT device_id, before_ts, start_ts, end_ts
FROM recordings
WHERE before_ts IS NULL
    OR before_ts >= start_ts + %(shortest_overlap)s
    -- Between the two lies the second 30 of a minute.
    OR (before_ts < start_ts
        AND date_bin('1 minute', before_ts - interval '30.000001 s', 'epoch')
            < date_bin('1 minute', start_ts - interval '30.000001 s', 'epoch'))
UNION ALL
SELECT device_id, greatest(before_ts, end_ts), NULL, NULL
FROM recordings
WHERE is_last
ORDER BY device_id, start_ts
