-- A point that has a row, or a device.
SELECT point_id, name, coalesce(time_zone, 'UTC') AS time_zone
FROM (SELECT %(point_id)s::uuid AS point_id) AS asked
LEFT JOIN points USING (point_id)
WHERE points.time_zone IS NOT NULL
    OR EXISTS (SELECT FROM devices WHERE devices.point_id = asked.point_id)
