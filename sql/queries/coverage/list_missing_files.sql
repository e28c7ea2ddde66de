-- The recordings of devices in a time whose files are missing.
SELECT device_id, start_ts, believed_end(start_ts, end_ts) AS end_ts
FROM audio_chunks
WHERE file_missing_since IS NOT NULL
    AND device_id = ANY(%(device_ids)s)
    AND start_ts > %(start)s::timestamptz - interval '24 hours'
    AND start_ts < %(end)s
