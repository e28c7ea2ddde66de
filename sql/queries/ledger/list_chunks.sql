-- A page of the chunks of devices or points, the oldest recording first: those after a certain one.
SELECT chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at,
    attempts, worker, processing_started_at, lease_expires_at, error_message, finished_at
FROM audio_chunks
WHERE (%(device_id)s::uuid IS NULL OR device_id = %(device_id)s)
    AND (%(point_ids)s::uuid[] IS NULL OR point_id = ANY(%(point_ids)s))
    AND (%(register_id)s::uuid IS NULL OR register_id = %(register_id)s)
    AND (%(status)s::text IS NULL OR status = %(status)s)
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
