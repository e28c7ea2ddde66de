-- How many chunks of these statuses were received before a time, and how many since. Of these it counts
-- no more than of the others.
WITH before AS (
    SELECT count(*) AS chunks
    FROM audio_chunks
    WHERE status = ANY(%(statuses)s::text[]) AND created_at < %(received_before)s
)
SELECT
    chunks AS before,
    (
        SELECT count(*)
        FROM (
            SELECT
            FROM audio_chunks
            WHERE status = ANY(%(statuses)s::text[]) AND created_at >= %(received_before)s
            LIMIT (SELECT chunks FROM before)
        ) AS counted
    ) AS since
FROM before
