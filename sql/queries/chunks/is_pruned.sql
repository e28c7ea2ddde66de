-- Whether a chunk was here until retention removed it, not long ago.
SELECT EXISTS (
    SELECT FROM pruned_chunks
    WHERE chunk_id = %(chunk_id)s AND pruned_at > now() - %(remembered)s::interval
) AS pruned
