-- Some of the latest recordings, to see whether the disk with the files is there.
SELECT
    chunk_id, point_id, register_id, start_ts,
    file_path, file_size_bytes, sha256, status, file_missing_since
FROM audio_chunks
ORDER BY chunk_id DESC
LIMIT 100
