-- A chunk that its device has sent again, unless its file is known to be missing or is being removed; it
-- records that the device was seen. It writes nothing when there is no such chunk.
WITH
known AS (
    SELECT chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
        sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at
    FROM audio_chunks
    WHERE chunk_id = %(chunk_id)s AND status <> 'PRUNED' AND file_missing_since IS NULL
),
seen AS (
    UPDATE devices SET
        last_seen_at = now(),
        clock_offset = coalesce(%(clock_offset)s::interval, clock_offset)
    WHERE device_id = (
        SELECT device_id
        FROM devices
        WHERE device_id = (SELECT device_id FROM known)
        FOR NO KEY UPDATE SKIP LOCKED  -- nobody's open transaction holds up a receipt
    )
    RETURNING device_id
)
SELECT chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
    sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at
FROM known
-- Only a commit that has written something waits for the disk and for a synchronous standby. The
-- receipt promises that the first commit has reached them.
WHERE EXISTS (SELECT FROM seen)
    OR pg_logical_emit_message(true, 'ingest_api', 'replay') IS NOT NULL
