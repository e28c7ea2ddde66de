-- How many devices are in each state.
SELECT
    device_state(
        is_enabled, last_seen_at, recorded_until, last_at, %(late_after)s, %(silent_after)s
    ) AS state,
    count(*) AS devices
FROM devices
LEFT JOIN refusals USING (device_id)
GROUP BY 1
