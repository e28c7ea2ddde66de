-- Take the oldest of a selection out of everybody's hands, before their files are removed.
UPDATE audio_chunks
SET status = 'PRUNED', lease_expires_at = NULL
WHERE chunk_id = ANY(ARRAY(
    SELECT chunk_id
    FROM audio_chunks
    WHERE status = %(status)s
        AND (%(received_from)s::timestamptz IS NULL OR created_at >= %(received_from)s)
        AND (%(received_before)s::timestamptz IS NULL OR created_at < %(received_before)s)
        AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
        AND (%(device_id)s::uuid IS NULL OR device_id = %(device_id)s)
        AND (%(recorded_from)s::timestamptz IS NULL OR end_ts > %(recorded_from)s)
        AND (%(recorded_until)s::timestamptz IS NULL OR start_ts < %(recorded_until)s)
    ORDER BY created_at
    LIMIT %(batch)s
    FOR UPDATE SKIP LOCKED
))
RETURNING
    chunk_id, point_id, register_id, start_ts, file_path, file_size_bytes, sha256, created_at
