-- What the rows with these ids say of their files.
SELECT
    chunk_id, point_id, register_id, start_ts,
    file_path, file_size_bytes, sha256, status, file_missing_since
FROM audio_chunks
WHERE chunk_id = ANY(%(chunk_ids)s)
