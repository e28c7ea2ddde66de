-- Indexes of our tables that a failed CREATE INDEX CONCURRENTLY left behind unusable.
SELECT indexrelid::regclass::text AS name
FROM pg_index
WHERE indrelid IN (to_regclass('audio_chunks'), to_regclass('devices')) AND NOT indisvalid
ORDER BY name
