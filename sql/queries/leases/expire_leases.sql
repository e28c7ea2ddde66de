-- Take back what silent workers hold: to be given out again, or given up after too many attempts.
UPDATE audio_chunks
SET status = CASE
        WHEN attempts - attempts_forgiven < %(max_attempts)s THEN 'QUEUED'
        ELSE 'ERROR'
    END,
    error_message = format(
        'the lease of attempt %%s expired (worker %%s)', attempts, coalesce(worker, 'unknown')
    ),
    lease_expires_at = NULL
WHERE chunk_id = ANY(ARRAY(
    SELECT chunk_id
    FROM audio_chunks
    -- Of leases alone, and in their order, so that ix_audio_chunks_lease serves it whatever the
    -- statistics say. Only a chunk that is PROCESSING has a lease: move_chunk clears the others.
    WHERE lease_expires_at < now()
    ORDER BY lease_expires_at
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
))
RETURNING chunk_id, status, attempts, error_message
