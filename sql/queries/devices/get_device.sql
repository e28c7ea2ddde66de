-- One device by its id.
SELECT device_id, point_id, register_id, is_enabled, created_at, last_seen_at, devices.name,
    points.name AS point_name
FROM devices
LEFT JOIN points USING (point_id)
WHERE device_id = %(device_id)s
