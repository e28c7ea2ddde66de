-- Let every unfinished chunk wait again after a loss, and put each fence beyond all attempts made.
UPDATE audio_chunks
SET status = CASE
        WHEN status IN ('UPLOADED', 'QUEUED', 'PROCESSING') THEN %(waiting_status)s
        ELSE status
    END,
    processing_started_at = NULL,
    lease_expires_at = NULL,
    worker = CASE WHEN status IN ('UPLOADED', 'QUEUED', 'PROCESSING') THEN NULL ELSE worker END,
    attempts = attempts + %(step)s,
    attempts_forgiven = attempts_forgiven + %(step)s
WHERE status <> 'PRUNED'
