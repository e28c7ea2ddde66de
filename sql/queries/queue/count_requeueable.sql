-- Count the chunks of a selection, by status and by whether their file is missing.
SELECT
    status,
    file_missing_since IS NOT NULL AS file_missing,
    count(*) AS chunks
FROM audio_chunks
WHERE status = ANY(%(statuses)s)
    AND (%(chunk_ids)s::uuid[] IS NULL OR chunk_id = ANY(%(chunk_ids)s))
    AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
    AND (%(device_id)s::uuid IS NULL OR device_id = %(device_id)s)
    AND (%(recorded_from)s::timestamptz IS NULL OR end_ts > %(recorded_from)s)
    AND (%(recorded_until)s::timestamptz IS NULL OR start_ts < %(recorded_until)s)
    AND (%(error_text)s::text IS NULL
         OR strpos(lower(error_message), lower(%(error_text)s)) > 0)
    AND (%(in_work_for)s::interval IS NULL
         OR coalesce(processing_started_at, created_at) < now() - %(in_work_for)s::interval)
GROUP BY 1, 2
ORDER BY 1, 2
