-- Write the row of a file whose row was lost, as it was received; its fence is beyond all attempts made.
WITH
inserted AS (
    INSERT INTO audio_chunks (
        chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec,
        codec, sample_rate, channels, file_path, file_size_bytes, sha256, status,
        created_at, attempts, attempts_forgiven
    ) VALUES (
        %(chunk_id)s, %(device_id)s, %(point_id)s, %(register_id)s, %(start_ts)s, %(end_ts)s,
        %(duration_sec)s, %(codec)s, %(sample_rate)s, %(channels)s, %(file_path)s,
        %(file_size_bytes)s, %(sha256)s, %(status)s,
        least(%(received_at)s, now()), %(fence)s, %(fence)s
    )
    ON CONFLICT (chunk_id) DO NOTHING
    RETURNING chunk_id, device_id, start_ts, end_ts, file_size_bytes
),
recorded AS (
    INSERT INTO recorded_hours AS known (device_id, hour, minutes, chunks, bytes)
    SELECT
        device_id,
        hour,
        minutes_between(hour, start_ts, believed_end(start_ts, end_ts)),
        (hour <= start_ts)::integer,
        CASE WHEN hour <= start_ts THEN file_size_bytes ELSE 0 END
    FROM inserted, hours_of(start_ts, end_ts) AS hour
    ON CONFLICT (device_id, hour) DO UPDATE SET
        minutes = known.minutes | excluded.minutes,
        chunks = known.chunks + excluded.chunks,
        bytes = known.bytes + excluded.bytes
)
SELECT chunk_id FROM inserted
