-- The ids of a page of all chunks, in the order of recording: of those after a certain one. It merges the
-- chunks of each status, because an index has those in this order.
WITH RECURSIVE
statuses AS (  -- each that there is, found without reading the others' rows
    (SELECT status FROM audio_chunks ORDER BY status LIMIT 1)
    UNION ALL
    SELECT (SELECT status FROM audio_chunks WHERE status > statuses.status ORDER BY status LIMIT 1)
    FROM statuses
    WHERE status IS NOT NULL
)
SELECT chunk_id
FROM (
    SELECT start_ts, chunk_id
    FROM statuses
    CROSS JOIN LATERAL (
        SELECT start_ts, chunk_id
        FROM audio_chunks
        WHERE audio_chunks.status = statuses.status
            AND (%(recorded_until)s::timestamptz IS NULL OR start_ts < %(recorded_until)s)
            AND (%(recorded_from)s::timestamptz IS NULL
                 OR start_ts > %(recorded_from)s::timestamptz - interval '2 minutes')
            AND (%(recorded_from)s::timestamptz IS NULL
                 OR start_ts >= %(recorded_from)s
                 OR believed_end(start_ts, end_ts) > %(recorded_from)s)
            AND (%(after_ts)s::timestamptz IS NULL
                 OR (start_ts, chunk_id) > (%(after_ts)s, %(after_id)s::uuid))
        ORDER BY start_ts ASC, chunk_id ASC
        LIMIT %(page)s
    ) AS of_status
    UNION ALL
    SELECT start_ts, chunk_id
    FROM audio_chunks
    WHERE %(recorded_from)s::timestamptz IS NOT NULL
        AND end_ts - start_ts > interval '2 minutes'
        AND start_ts > %(recorded_from)s::timestamptz - interval '24 hours'
        AND start_ts <= %(recorded_from)s::timestamptz - interval '2 minutes'
        AND believed_end(start_ts, end_ts) > %(recorded_from)s
        AND (%(after_ts)s::timestamptz IS NULL
             OR (start_ts, chunk_id) > (%(after_ts)s, %(after_id)s::uuid))
) AS chunk
ORDER BY start_ts ASC, chunk_id ASC
LIMIT %(page)s
