-- Enable or disable a device, change its token or its name; NULL leaves a column as it is, and an empty
-- name removes it.
UPDATE devices SET
    is_enabled = coalesce(%(is_enabled)s, is_enabled),
    disabled_at = CASE
        WHEN coalesce(%(is_enabled)s, is_enabled) THEN NULL
        WHEN is_enabled THEN now()
        ELSE disabled_at
    END,
    token_hash = coalesce(%(token_hash)s, token_hash),
    name = nullif(coalesce(%(name)s, name), '')
WHERE device_id = %(device_id)s
RETURNING device_id, point_id, register_id, is_enabled, created_at, last_seen_at, name,
    (SELECT name FROM points WHERE points.point_id = devices.point_id) AS point_name
