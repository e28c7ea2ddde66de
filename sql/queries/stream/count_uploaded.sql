-- How many chunks are still to be announced, and for how many seconds the oldest has waited.
SELECT count(*) AS chunks,
    coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_seconds
FROM audio_chunks
WHERE status = 'UPLOADED'
