-- When the first chunk of a device starts, from an instant on.
SELECT start_ts
FROM audio_chunks
WHERE device_id = %(device_id)s AND start_ts >= %(start)s
ORDER BY start_ts
LIMIT 1
