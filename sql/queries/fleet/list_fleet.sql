-- A page of the fleet, the worst first: the devices after a certain one. It reads all devices: an index by
-- what changes with every upload would cost each upload more than this costs a page.
WITH
judged AS (
    SELECT
        devices.device_id, devices.name, point_id, points.name AS point_name, register_id,
        coalesce(time_zone, 'UTC') AS time_zone, created_at, recorded_until, recording_since,
        last_seen_at, clock_offset, disabled_at, code, detail, first_at, last_at, count,
        device_state(
            is_enabled, last_seen_at, recorded_until, last_at, %(late_after)s, %(silent_after)s
        ) AS state
    FROM devices
    LEFT JOIN points USING (point_id)
    LEFT JOIN refusals
        ON refusals.device_id = devices.device_id
        AND (last_seen_at IS NULL OR last_at > last_seen_at)
    WHERE (%(point_id)s::uuid IS NULL OR point_id = %(point_id)s)
        AND (%(text)s::text IS NULL
             OR strpos(lower(concat_ws(
                 ' ', devices.name, points.name, devices.device_id, point_id, register_id
             )), lower(%(text)s)) > 0)
),
ranked AS (
    SELECT
        device_id, name, point_id, point_name, register_id, time_zone, state,
        array_position(%(states)s::text[], state) AS rank,
        CASE state
            WHEN 'refused' THEN first_at
            WHEN 'silent' THEN greatest(last_seen_at, last_at)
            WHEN 'late' THEN coalesce(recorded_until, last_seen_at)
            WHEN 'recording' THEN coalesce(recording_since, last_seen_at)
            WHEN 'disabled' THEN coalesce(disabled_at, created_at)
            ELSE created_at
        END AS since,
        recorded_until, last_seen_at, clock_offset, code, detail, last_at, count
    FROM judged
    WHERE %(state)s::text IS NULL OR state = %(state)s
)
SELECT
    device_id, name, point_id, point_name, register_id, time_zone, state, rank, since,
    recorded_until, last_seen_at, clock_offset, code AS refusal_code, detail AS refusal_detail,
    last_at AS refused_at, coalesce(count, 0) AS refusals
FROM ranked
WHERE %(after_rank)s::integer IS NULL
    OR (rank, since, device_id) > (%(after_rank)s, %(after_since)s, %(after_id)s::uuid)
ORDER BY rank, since, device_id
LIMIT %(page)s
