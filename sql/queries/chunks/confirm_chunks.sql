-- Which of these chunks a device need not send again: what their rows say of their files.
WITH
known AS (
    SELECT
        chunk_id, point_id, register_id, start_ts,
        file_path, file_size_bytes, sha256, status, file_missing_since
    FROM audio_chunks
    WHERE chunk_id = ANY(%(chunk_ids)s) AND status <> 'PRUNED' AND file_missing_since IS NULL
),
-- As in confirm_chunk: the commit waits until the first ones have reached the disk and a synchronous
-- standby.
written AS MATERIALIZED (
    SELECT pg_logical_emit_message(true, 'ingest_api', 'known') AS written_at
    WHERE EXISTS (SELECT FROM known)
)
SELECT
    chunk_id, point_id, register_id, start_ts,
    file_path, file_size_bytes, sha256, status, file_missing_since
FROM known, written
