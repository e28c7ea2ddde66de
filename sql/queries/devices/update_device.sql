-- Enable or disable a device, change its token, or both; NULL leaves a column as it is.
UPDATE devices SET
    is_enabled = coalesce(%(is_enabled)s, is_enabled),
    token_hash = coalesce(%(token_hash)s, token_hash)
WHERE device_id = %(device_id)s
RETURNING device_id, point_id, register_id, is_enabled, created_at, last_seen_at
