-- The ids of a page of the chunks of a device, a point or a status, in the order of recording: of those after
-- a certain one. A time selects what overlaps with it: of the recordings that begin more than two minutes
-- before it, only an index of the long ones is searched.
SELECT chunk_id
FROM (
    (
        SELECT start_ts, chunk_id
        FROM audio_chunks
        WHERE (%(device_id)s::uuid IS NULL OR device_id = %(device_id)s)
            AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
            AND (%(register_id)s::uuid IS NULL OR register_id = %(register_id)s)
            AND (%(status)s::text IS NULL OR status = %(status)s)
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
    )
    UNION ALL
    SELECT start_ts, chunk_id
    FROM audio_chunks
    WHERE %(recorded_from)s::timestamptz IS NOT NULL
        AND end_ts - start_ts > interval '2 minutes'
        AND start_ts > %(recorded_from)s::timestamptz - interval '24 hours'
        AND start_ts <= %(recorded_from)s::timestamptz - interval '2 minutes'
        AND believed_end(start_ts, end_ts) > %(recorded_from)s
        AND (%(device_id)s::uuid IS NULL OR device_id = %(device_id)s)
        AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
        AND (%(register_id)s::uuid IS NULL OR register_id = %(register_id)s)
        AND (%(status)s::text IS NULL OR status = %(status)s)
        AND (%(after_ts)s::timestamptz IS NULL
             OR (start_ts, chunk_id) > (%(after_ts)s, %(after_id)s::uuid))
) AS chunk
ORDER BY start_ts ASC, chunk_id ASC
LIMIT %(page)s
