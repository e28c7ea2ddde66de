-- Record that uploads of a device were refused, unless that was just done. The count begins
-- again after an upload that was accepted.
INSERT INTO refusals AS known (device_id, code, detail, first_at, last_at, count)
SELECT device_id, %(code)s, %(detail)s, now(), now(), %(count)s
FROM devices
WHERE device_id = %(device_id)s
ON CONFLICT (device_id) DO UPDATE SET
    (code, detail, last_at) = (excluded.code, excluded.detail, excluded.last_at),
    (first_at, count) = (
        SELECT
            CASE WHEN last_seen_at > known.last_at THEN excluded.first_at ELSE known.first_at END,
            CASE WHEN last_seen_at > known.last_at THEN 0 ELSE known.count END + excluded.count
        FROM devices
        WHERE devices.device_id = known.device_id
    )
WHERE known.last_at <= now() - %(pause)s::interval
