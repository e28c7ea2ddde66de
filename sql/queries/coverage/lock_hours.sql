-- Lock the hours of a device's chunks that start in a time, those without a row too.
INSERT INTO recorded_hours AS known (device_id, hour, minutes, chunks, bytes)
SELECT DISTINCT device_id, hour, 0, 0, 0
FROM audio_chunks, hours_of(start_ts, end_ts) AS hour
WHERE device_id = %(device_id)s AND start_ts >= %(start)s AND start_ts < %(end)s
ORDER BY hour  -- as uploads lock them
ON CONFLICT (device_id, hour) DO UPDATE SET minutes = known.minutes
