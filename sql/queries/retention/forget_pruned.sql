-- Forget the ids of what was removed long ago, a few at a time.
DELETE FROM pruned_chunks
WHERE chunk_id = ANY(ARRAY(
    SELECT chunk_id
    FROM pruned_chunks
    WHERE pruned_at < now() - %(remembered)s::interval
    ORDER BY pruned_at
    LIMIT %(batch)s
))
