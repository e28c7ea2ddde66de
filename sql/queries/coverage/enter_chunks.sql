-- Enter the chunks of a device that start in a time into the hours that they touch, which are locked. What
-- was recorded before stays, because retention may have removed its chunks.
UPDATE recorded_hours AS known SET
    minutes = known.minutes | there.minutes,
    chunks = greatest(known.chunks, there.chunks),
    bytes = greatest(known.bytes, there.bytes)
FROM (
    SELECT
        hour,
        bit_or(minutes_between(hour, start_ts, believed_end(start_ts, end_ts))) AS minutes,
        count(*) FILTER (WHERE hour <= start_ts) AS chunks,
        coalesce(sum(file_size_bytes) FILTER (WHERE hour <= start_ts), 0) AS bytes
    FROM audio_chunks, hours_of(start_ts, end_ts) AS hour
    WHERE device_id = %(device_id)s AND start_ts >= %(start)s AND start_ts < %(end)s
    GROUP BY hour
) AS there
WHERE known.device_id = %(device_id)s AND known.hour = there.hour
