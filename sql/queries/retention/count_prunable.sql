-- How many chunks a selection covers, by status, and how many an interrupted run has left.
SELECT status, count(*) AS chunks, sum(file_size_bytes)::bigint AS bytes
FROM audio_chunks
WHERE status = 'PRUNED'
    OR (
        (%(received_before)s::timestamptz IS NULL OR created_at < %(received_before)s)
        AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
        AND (%(device_id)s::uuid IS NULL OR device_id = %(device_id)s)
        AND (%(recorded_from)s::timestamptz IS NULL OR end_ts > %(recorded_from)s)
        AND (%(recorded_until)s::timestamptz IS NULL OR start_ts < %(recorded_until)s)
    )
GROUP BY status
ORDER BY status
