-- The next page of what the rows say of their files, in the order of the ids.
SELECT
    chunk_id, point_id, register_id, start_ts,
    file_path, file_size_bytes, sha256, status, file_missing_since
FROM audio_chunks
WHERE chunk_id > %(after)s
ORDER BY chunk_id
LIMIT %(page)s
