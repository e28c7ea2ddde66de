-- A page of the devices, newest first: those after a certain one.
SELECT device_id, point_id, register_id, is_enabled, created_at, last_seen_at
FROM devices
WHERE %(after_time)s::timestamptz IS NULL
    OR (created_at, device_id) < (%(after_time)s, %(after_id)s::uuid)
ORDER BY created_at DESC, device_id DESC
LIMIT %(page)s
