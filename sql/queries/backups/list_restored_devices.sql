-- The devices, newest first, in the columns that every version's backup has.
SELECT device_id, point_id, register_id, is_enabled, created_at, last_seen_at
FROM devices
ORDER BY created_at DESC, device_id DESC
