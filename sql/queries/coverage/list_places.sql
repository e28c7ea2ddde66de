-- The devices of a point, of a register, or one, in the order of their ids.
SELECT
    device_id, devices.name, point_id, points.name AS point_name, register_id,
    coalesce(time_zone, 'UTC') AS time_zone, is_enabled, recorded_until
FROM devices
LEFT JOIN points USING (point_id)
WHERE (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
    AND (%(register_id)s::uuid IS NULL OR register_id = %(register_id)s)
    AND (%(device_id)s::uuid IS NULL OR device_id = %(device_id)s)
ORDER BY device_id
