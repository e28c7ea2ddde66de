-- The chunks that fsck gave up before 0009, whose error_message alone says so. It locks these rows
-- and no table. Another's words with the same beginning are left alone: fsck wrote the status and,
-- behind a colon, the message that were there. When the file went missing is known only of a chunk
-- that was not finished before; of the others, that it is missing now.

UPDATE audio_chunks
SET status_before = told[1],
    error_message_before = told[2],
    file_missing_since = CASE
        WHEN told[1] IN ('UPLOADED', 'QUEUED', 'PROCESSING') THEN coalesce(finished_at, now())
        ELSE now()
    END
FROM (
    SELECT chunk_id AS lost_id,
        regexp_match(error_message, '^file missing \(was ([^:)]+)(?:: (.*))?\)$') AS told
    FROM audio_chunks
    WHERE status = 'ERROR' AND error_message LIKE 'file missing (was %'
) AS given_up
WHERE chunk_id = lost_id
    AND status = 'ERROR'
    AND file_missing_since IS NULL
    AND told IS NOT NULL
    AND (sha256 IS NULL
         OR told[1] IN ('UPLOADED', 'QUEUED', 'PROCESSING', 'DONE', 'ERROR'));
