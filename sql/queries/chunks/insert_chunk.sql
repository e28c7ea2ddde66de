-- Record a chunk and that its device was seen; created_at is NULL when the chunk was known already.
WITH
seen AS (
    UPDATE devices SET last_seen_at = now()
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
    RETURNING created_at
)
SELECT
    (SELECT created_at FROM inserted) AS created_at,
    -- Only a commit that has written something waits for the disk and for a synchronous standby. A
    -- replay's 200 promises that the first commit has reached them.
    CASE WHEN NOT EXISTS (SELECT FROM inserted) AND NOT EXISTS (SELECT FROM seen)
        THEN pg_logical_emit_message(true, 'ingest_api', 'replay')
    END AS written_at
