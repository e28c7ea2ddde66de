-- migrate: no transaction
-- The leases by their end: a claim reads those that have expired, however many are live. Renewing a
-- lease now touches the indexes, which costs less than reading every lease at every claim.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_lease
    ON audio_chunks (lease_expires_at)
    WHERE lease_expires_at IS NOT NULL;
