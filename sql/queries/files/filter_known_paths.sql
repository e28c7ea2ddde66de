-- Which of these paths are named by a row. Reads the whole table: there is no index on paths.
SELECT file_path
FROM audio_chunks
WHERE file_path = ANY(%(file_paths)s)
