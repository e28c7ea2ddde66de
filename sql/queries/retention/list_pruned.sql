-- What is marked, in the order of the ids: when no retention runs, one was interrupted there.
SELECT
    chunk_id, point_id, register_id, start_ts, file_path, file_size_bytes, sha256, created_at
FROM audio_chunks
WHERE status = 'PRUNED' AND chunk_id > %(after)s
ORDER BY chunk_id
LIMIT %(batch)s
