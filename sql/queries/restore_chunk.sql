-- Make a chunk what it was before it was given up for its missing file, which is there again.
UPDATE audio_chunks
SET status = replace(
        substring(error_message from '^file missing \(was ([^:)]+)'), 'PROCESSING', 'QUEUED'
    ),
    error_message = substring(error_message from '^file missing \(was [^:)]+: (.*)\)$')
WHERE chunk_id = %(chunk_id)s
    AND status = 'ERROR'
    AND error_message ~ '^file missing \(was [^:)]+'
RETURNING status
