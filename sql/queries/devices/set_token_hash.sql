-- Change the token of a device, whatever version made the schema: two devices with one token stop a
-- migration.
UPDATE devices SET token_hash = %(token_hash)s
WHERE device_id = %(device_id)s
RETURNING device_id, point_id, register_id, is_enabled, created_at, last_seen_at
