-- Some of what is marked: when no retention runs, one was interrupted here.
SELECT chunk_id
FROM audio_chunks
WHERE status = 'PRUNED'
LIMIT %(batch)s
