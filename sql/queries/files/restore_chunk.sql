-- Restore a chunk whose file is back: to its status, or to waiting if it was not finished.
UPDATE audio_chunks
SET status = CASE
        WHEN status_before IN ('UPLOADED', 'QUEUED', 'PROCESSING') THEN %(waiting_status)s
        ELSE status_before
    END,
    error_message = error_message_before,
    file_missing_since = NULL
WHERE chunk_id = %(chunk_id)s AND file_missing_since IS NOT NULL
RETURNING status
