-- The share of the minutes of a time that enabled devices have recorded, of those that ever recorded. NULL:
-- there is no such device.
SELECT
    sum(recorded)::float8
        / nullif(count(*) * extract(epoch FROM %(end)s::timestamptz - %(start)s::timestamptz) / 60, 0)
        AS coverage
FROM devices
CROSS JOIN LATERAL (
    SELECT coalesce(sum(bit_count(
        (minutes & minutes_between(hour, %(start)s, %(end)s))::bit(64)
    )), 0) AS recorded
    FROM recorded_hours
    WHERE recorded_hours.device_id = devices.device_id
        AND hour >= date_bin('1 hour', %(start)s, 'epoch')
        AND hour < %(end)s
) AS counted
WHERE is_enabled AND recorded_until IS NOT NULL
