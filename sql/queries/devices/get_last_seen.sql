-- When the last recorder was seen.
SELECT max(last_seen_at) AS last_seen_at
FROM devices
