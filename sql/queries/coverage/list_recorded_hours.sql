-- What devices have recorded in a time, by hour.
SELECT device_id, hour, minutes
FROM recorded_hours
WHERE device_id = ANY(%(device_ids)s)
    AND hour >= date_bin('1 hour', %(start)s, 'epoch')
    AND hour < %(end)s
