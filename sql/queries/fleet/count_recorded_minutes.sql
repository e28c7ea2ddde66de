-- How many minutes devices have recorded since the midnights of their days, and in the week before now. Only
-- of the hours at the edges some minutes do not count.
SELECT
    device_id,
    coalesce(sum(bit_count(minutes_of_day::bit(64))), 0)::integer AS today,
    coalesce(sum(bit_count(minutes_of_week::bit(64))), 0)::integer AS week
FROM unnest(
    %(device_ids)s::uuid[], %(midnights)s::timestamptz[], %(week_starts)s::timestamptz[]
) AS asked (device_id, midnight, week_start)
JOIN recorded_hours USING (device_id)
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN hour >= week_start AND hour < date_bin('1 hour', %(now)s, 'epoch') THEN minutes
            ELSE minutes & minutes_between(hour, week_start, %(now)s)
        END AS minutes_of_week,
        CASE
            WHEN hour <= midnight - interval '1 hour' THEN 0
            ELSE minutes & minutes_between(hour, midnight, %(now)s)
        END AS minutes_of_day
) AS counted
WHERE hour >= date_bin('1 hour', week_start, 'epoch') AND hour < %(now)s
GROUP BY device_id
