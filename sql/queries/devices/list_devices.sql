-- A page of the devices, newest first: those after a certain one.
SELECT device_id, point_id, register_id, is_enabled, created_at, last_seen_at,
    devices.name, points.name AS point_name
FROM devices
LEFT JOIN points USING (point_id)
WHERE (%(after_time)s::timestamptz IS NULL
        OR (created_at, device_id) < (%(after_time)s, %(after_id)s::uuid))
    AND (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
    AND (%(text)s::text IS NULL
         OR strpos(lower(concat_ws(
             ' ', devices.name, points.name, device_id, point_id, register_id
         )), lower(%(text)s)) > 0)
    AND (%(state)s::text IS NULL
         OR %(state)s = device_state(
             is_enabled, last_seen_at, recorded_until,
             (SELECT last_at FROM refusals WHERE refusals.device_id = devices.device_id),
             %(late_after)s, %(silent_after)s
         ))
ORDER BY created_at DESC, device_id DESC
LIMIT %(page)s
