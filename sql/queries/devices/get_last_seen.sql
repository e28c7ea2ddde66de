-- When any device was last seen.
SELECT max(last_seen_at) AS last_seen_at
FROM devices
