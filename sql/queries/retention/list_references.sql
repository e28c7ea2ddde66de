-- Which tables refer to chunks, and what happens to their rows when a chunk is deleted.
SELECT conrelid::regclass::text AS table_name, confdeltype AS on_delete
FROM pg_constraint
WHERE contype = 'f' AND confrelid = 'audio_chunks'::regclass
ORDER BY table_name
