-- Write the row of a file whose row was lost, as it was received; its fence is beyond all attempts made.
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
RETURNING chunk_id
