-- Requeue the next chunks of a selection, as if never tried, except those that another session holds.
WITH
selected AS (
    SELECT chunk_id
    FROM audio_chunks
    WHERE status = ANY(%(statuses)s)
        AND chunk_id > %(after)s
        AND file_missing_since IS NULL
        AND (%(chunk_ids)s::uuid[] IS NULL OR chunk_id = ANY(%(chunk_ids)s))
        AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
        AND (%(device_id)s::uuid IS NULL OR device_id = %(device_id)s)
        AND (%(recorded_from)s::timestamptz IS NULL OR end_ts > %(recorded_from)s)
        AND (%(recorded_until)s::timestamptz IS NULL OR start_ts < %(recorded_until)s)
        AND (%(error_text)s::text IS NULL
             OR strpos(lower(error_message), lower(%(error_text)s)) > 0)
        AND (%(in_work_for)s::interval IS NULL
             OR coalesce(processing_started_at, created_at) < now() - %(in_work_for)s::interval)
    ORDER BY chunk_id
    LIMIT %(batch)s
),
requeued AS (
    UPDATE audio_chunks
    SET status = %(waiting_status)s,
        error_message = NULL,
        lease_expires_at = NULL,
        attempts_forgiven = attempts
    WHERE chunk_id = ANY(ARRAY(
        SELECT chunk_id
        FROM audio_chunks
        WHERE chunk_id = ANY(ARRAY(SELECT chunk_id FROM selected))
            -- Once more, of the row as it is when it is locked.
            AND status = ANY(%(statuses)s)
            AND file_missing_since IS NULL
            AND (%(in_work_for)s::interval IS NULL
                 OR coalesce(processing_started_at, created_at) < now() - %(in_work_for)s::interval)
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING chunk_id
)
SELECT chunk_id, requeued.chunk_id IS NOT NULL AS is_requeued
FROM selected
LEFT JOIN requeued USING (chunk_id)
ORDER BY chunk_id
