-- What the rows say of their files, in no order, without rows that retention has marked.
SELECT file_path AS path, file_size_bytes AS size, sha256
FROM audio_chunks
WHERE status <> 'PRUNED'
