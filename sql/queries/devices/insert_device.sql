-- Register a device; a device_id or token that exists already violates a unique index.
INSERT INTO devices (device_id, point_id, register_id, token_hash, name)
VALUES (%(device_id)s, %(point_id)s, %(register_id)s, %(token_hash)s, %(name)s)
RETURNING device_id, point_id, register_id, is_enabled, created_at, last_seen_at, name,
    (SELECT name FROM points WHERE points.point_id = devices.point_id) AS point_name
