-- What the rows say of their files, in no order, without rows that retention has marked.
SELECT
    chunk_id, point_id, register_id, start_ts,
    file_path, file_size_bytes, sha256, status, file_missing_since
FROM audio_chunks
WHERE status <> 'PRUNED'
