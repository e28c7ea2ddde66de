-- How many chunks have each status, and how old they are; too many to count: from the statistics.
WITH
counted AS (
    SELECT
        'PROCESSING' AS status,
        count(*) AS chunks,
        count(*) FILTER (WHERE created_at > now() - interval '1 hour') AS received,
        min(start_ts) AS oldest_recording,
        min(created_at) AS oldest_received,
        min(coalesce(processing_started_at, created_at)) AS oldest_taken,
        count(*) FILTER (WHERE lease_expires_at < now()) AS expired_leases
    FROM audio_chunks
    WHERE status = 'PROCESSING'
    UNION ALL
    SELECT
        'QUEUED',
        count(*),
        count(*) FILTER (WHERE created_at > now() - interval '1 hour'),
        min(start_ts),
        min(created_at),
        NULL,
        0
    FROM audio_chunks
    WHERE status = 'QUEUED'
    UNION ALL
    SELECT
        'UPLOADED',
        count(*),
        count(*) FILTER (WHERE created_at > now() - interval '1 hour'),
        min(start_ts),
        min(created_at),
        NULL,
        0
    FROM audio_chunks
    WHERE status = 'UPLOADED'
    UNION ALL
    SELECT finished.status, counted.chunks, received.chunks, NULL, NULL, NULL, 0
    FROM (VALUES ('DONE'), ('ERROR'), ('PRUNED')) AS finished (status)
    CROSS JOIN LATERAL (
        SELECT count(*) AS chunks
        FROM (
            SELECT
            FROM audio_chunks
            WHERE status = finished.status AND status IN ('DONE', 'ERROR', 'PRUNED')
            ORDER BY created_at
            LIMIT %(countable)s
        ) AS one
    ) AS counted
    CROSS JOIN LATERAL (
        SELECT count(*) AS chunks
        FROM audio_chunks
        WHERE status = finished.status
            AND status IN ('DONE', 'ERROR', 'PRUNED')
            AND created_at > now() - interval '1 hour'
    ) AS received
),
guessed AS (
    SELECT guess.status, round(pg_class.reltuples * guess.share)::bigint AS chunks
    FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
    JOIN pg_stats
        ON pg_stats.schemaname = pg_namespace.nspname AND pg_stats.tablename = pg_class.relname
    CROSS JOIN LATERAL unnest(
        pg_stats.most_common_vals::text::text[], pg_stats.most_common_freqs
    ) AS guess (status, share)
    WHERE pg_class.oid = 'audio_chunks'::regclass
        AND pg_stats.attname = 'status'
        AND pg_class.reltuples * guess.share >= 1
)
SELECT
    status,
    greatest(counted.chunks, CASE WHEN estimated THEN guessed.chunks END) AS chunks,
    estimated,
    coalesce(received, 0) AS received,
    oldest_recording,
    oldest_received,
    oldest_taken,
    coalesce(expired_leases, 0) AS expired_leases
FROM counted
FULL JOIN guessed USING (status)  -- also those of the earlier service, as far as statistics know
CROSS JOIN LATERAL (
    SELECT coalesce(counted.chunks, %(countable)s) >= %(countable)s
) AS countable (estimated)
ORDER BY
    array_position(
        ARRAY['UPLOADED', 'QUEUED', 'PROCESSING', 'DONE', 'ERROR', 'PRUNED'], status
    ),
    status
