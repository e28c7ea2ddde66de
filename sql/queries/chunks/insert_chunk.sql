-- Record a chunk, the minutes that it covers, and that its device was seen; created_at is NULL when the
-- chunk was known already.
WITH
seen AS (
    UPDATE devices SET
        last_seen_at = now(),
        recorded_until = greatest(
            recorded_until,
            least(believed_end(%(start_ts)s, %(end_ts)s), now() + interval '1 minute')
        ),
        recording_since = CASE
            WHEN %(start_ts)s <= recorded_until + interval '10 minutes' THEN recording_since
            ELSE least(%(start_ts)s, now())
        END,
        clock_offset = CASE
            WHEN %(clock_offset)s::interval IS NOT NULL THEN %(clock_offset)s
            WHEN recorded_until > %(end_ts)s THEN clock_offset  -- an old recording proves nothing
        END
    WHERE device_id = (
        SELECT device_id
        FROM devices
        WHERE device_id = %(device_id)s
        FOR NO KEY UPDATE SKIP LOCKED  -- nobody's open transaction holds up an upload
    )
    RETURNING device_id
),
inserted AS (
    INSERT INTO audio_chunks (
        chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec,
        codec, sample_rate, channels, file_path, file_size_bytes, sha256, status
    ) VALUES (
        %(chunk_id)s, %(device_id)s, %(point_id)s, %(register_id)s, %(start_ts)s, %(end_ts)s,
        %(duration_sec)s, %(codec)s, %(sample_rate)s, %(channels)s, %(file_path)s,
        %(file_size_bytes)s, %(sha256)s, %(status)s
    )
    ON CONFLICT (chunk_id) DO NOTHING
    RETURNING device_id, start_ts, end_ts, file_size_bytes, created_at
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
SELECT
    (SELECT created_at FROM inserted) AS created_at,
    -- Only a commit that has written something waits for the disk and for a synchronous standby. A
    -- replay's 200 promises that the first commit has reached them.
    CASE WHEN NOT EXISTS (SELECT FROM inserted) AND NOT EXISTS (SELECT FROM seen)
        THEN pg_logical_emit_message(true, 'ingest_api', 'replay')
    END AS written_at
