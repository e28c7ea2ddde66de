-- Make a chunk what it was before it was given up for its missing file, or let it wait once more.
UPDATE audio_chunks
SET status = CASE
        WHEN error_message ~ '^file missing \(was (UPLOADED|QUEUED|PROCESSING)[:)]'
        THEN %(waiting_status)s
        ELSE substring(error_message from '^file missing \(was ([^:)]+)')
    END,
    error_message = substring(error_message from '^file missing \(was [^:)]+: (.*)\)$')
WHERE chunk_id = %(chunk_id)s
    AND status = 'ERROR'
    AND error_message ~ '^file missing \(was [^:)]+'
RETURNING status
