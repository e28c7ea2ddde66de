-- How many minutes devices have recorded since the midnights of their days, and in the week before now.
SELECT
    device_id,
    coalesce(sum(bit_count(
        (minutes & minutes_between(hour, midnight, %(now)s))::bit(64)
    )), 0)::integer AS today,
    coalesce(sum(bit_count(
        (minutes & minutes_between(hour, week_start, %(now)s))::bit(64)
    )), 0)::integer AS week
FROM unnest(
    %(device_ids)s::uuid[], %(midnights)s::timestamptz[], %(week_starts)s::timestamptz[]
) AS asked (device_id, midnight, week_start)
LEFT JOIN recorded_hours USING (device_id)
WHERE hour >= date_bin('1 hour', week_start, 'epoch') AND hour < %(now)s
GROUP BY device_id
