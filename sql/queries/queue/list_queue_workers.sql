-- What each worker has in progress, and finished in the last hour; NULL: all that use plain SQL.
SELECT
    worker,
    count(*) FILTER (WHERE status = 'PROCESSING') AS in_work,
    min(taken_at) AS oldest_taken,
    count(*) FILTER (WHERE status = 'DONE') AS done,
    count(*) FILTER (WHERE status = 'ERROR') AS error
FROM (
    SELECT worker, status, coalesce(processing_started_at, created_at) AS taken_at
    FROM audio_chunks
    WHERE status = 'PROCESSING'
    UNION ALL
    SELECT worker, status, NULL
    FROM audio_chunks
    WHERE finished_at > now() - interval '1 hour'
        AND file_missing_since IS NULL  -- else fsck has given it up, and no worker
) AS known
GROUP BY worker
ORDER BY worker
