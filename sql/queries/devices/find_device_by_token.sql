-- The device that a bearer token belongs to, enabled or not.
SELECT device_id, point_id, register_id, is_enabled, created_at, last_seen_at
FROM devices
WHERE token_hash = %(token_hash)s
