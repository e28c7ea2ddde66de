-- Retention marks a chunk PRUNED before it removes the file, and deletes the row after: so no row
-- promises a file that is gone. The rows that are there need not be read again: they kept a
-- stricter rule.

ALTER TABLE audio_chunks
    DROP CONSTRAINT audio_chunks_status,
    ADD CONSTRAINT audio_chunks_status
        CHECK (sha256 IS NULL
               OR status IN ('UPLOADED', 'QUEUED', 'PROCESSING', 'DONE', 'ERROR', 'PRUNED'))
        NOT VALID;
