-- How much is still to be announced, and since when the oldest of it waits, in seconds.
SELECT count(*) AS chunks,
    coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_seconds
FROM audio_chunks
WHERE status = 'UPLOADED'
