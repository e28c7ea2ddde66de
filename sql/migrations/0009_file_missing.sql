-- A chunk whose file is missing says so in columns. Before, only the beginning of its error_message
-- did: 'file missing (was QUEUED)', or 'file missing (was ERROR: cannot decode)'. That sentence stays,
-- for people and for the version before, and nothing is read from it any more. See sql/README.md.

ALTER TABLE audio_chunks
    ADD COLUMN file_missing_since timestamptz,
    ADD COLUMN status_before text,
    ADD COLUMN error_message_before text;

-- Not validated: the columns are new, so every row keeps this rule, and none need be read.
ALTER TABLE audio_chunks
    ADD CONSTRAINT audio_chunks_file_missing
        CHECK ((file_missing_since IS NULL) = (status_before IS NULL)
               AND (file_missing_since IS NULL OR status = 'ERROR')
               AND (file_missing_since IS NOT NULL OR error_message_before IS NULL))
        NOT VALID;

-- The path is fixed, so that a client's own search_path does not hide pruned_chunks.
CREATE OR REPLACE FUNCTION move_chunk() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    loses_file boolean := false;
    file_returns boolean := false;
    sentence text;
    knows_of_leases boolean := NEW.lease_expires_at IS DISTINCT FROM OLD.lease_expires_at;
BEGIN
    IF OLD.file_missing_since IS NOT NULL THEN
        file_returns := NEW.file_missing_since IS NULL
            OR (NEW.status = OLD.status_before
                AND NEW.error_message IS NOT DISTINCT FROM OLD.error_message_before);
    ELSIF NEW.status = 'ERROR' THEN
        sentence := format(
            'file missing (was %s%s)', OLD.status, coalesce(': ' || OLD.error_message, '')
        );
        -- The version before writes the sentence alone. It may run until the service is restarted.
        loses_file := NEW.file_missing_since IS NOT NULL
            OR (NEW.error_message IS NOT DISTINCT FROM sentence
                AND coalesce(OLD.lease_expires_at < now(), true));
    END IF;
    IF OLD.lease_expires_at > clock_timestamp() AND NOT knows_of_leases THEN
        RETURN OLD;
    END IF;
    IF OLD.status IN ('DONE', 'ERROR', 'PRUNED') AND NEW.status IN ('DONE', 'ERROR')
        AND (OLD.status = 'PRUNED' OR NOT (loses_file OR file_returns))
    THEN
        RETURN OLD;  -- a late result
    END IF;
    IF OLD.status = 'PRUNED' OR (OLD.status IN ('DONE', 'ERROR') AND NEW.status = 'PROCESSING') THEN
        RAISE check_violation USING
            MESSAGE = format('a chunk cannot go from %s to %s', OLD.status, NEW.status),
            HINT = 'flask ingest requeue puts a finished chunk into the queue again';
    END IF;
    IF NEW.status NOT IN ('UPLOADED', 'QUEUED', 'PROCESSING', 'DONE', 'ERROR', 'PRUNED')
        AND NOT (file_returns AND NEW.status = OLD.status_before)
    THEN
        IF OLD.status = 'ERROR' AND OLD.file_missing_since IS NULL
            AND starts_with(OLD.error_message, 'file missing (was ')
        THEN
            RETURN OLD;  -- the version before takes a worker's message for its own sentence
        END IF;
        RAISE check_violation USING MESSAGE = format('there is no status %s', NEW.status);
    END IF;
    IF loses_file THEN
        NEW.file_missing_since := now();
        NEW.status_before := OLD.status;
        NEW.error_message_before := OLD.error_message;
        NEW.error_message := sentence;
    ELSIF OLD.file_missing_since IS NOT NULL OR NEW.file_missing_since IS NOT NULL THEN
        NEW.file_missing_since := NULL;
        NEW.status_before := NULL;
        NEW.error_message_before := NULL;
    END IF;
    NEW.attempts := OLD.attempts;
    IF NEW.status = 'PROCESSING' THEN
        IF OLD.attempts = 0 THEN
            SELECT attempts, attempts INTO NEW.attempts, NEW.attempts_forgiven
            FROM pruned_chunks WHERE chunk_id = OLD.chunk_id;
        END IF;
        NEW.attempts := coalesce(NEW.attempts, 0) + 1;
        NEW.attempts_forgiven := coalesce(NEW.attempts_forgiven, 0);
        NEW.processing_started_at := coalesce(NEW.processing_started_at, now());
        NEW.finished_at := NULL;
        RETURN NEW;
    END IF;
    NEW.processing_started_at := NULL;
    NEW.lease_expires_at := NULL;
    IF NEW.status IN ('DONE', 'ERROR') THEN
        NEW.finished_at := coalesce(OLD.finished_at, now());
        IF OLD.lease_expires_at IS NOT NULL AND NOT knows_of_leases THEN
            NEW.worker := NULL;  -- it was not the one that had the lease
        END IF;
    ELSE
        NEW.finished_at := NULL;
        NEW.worker := NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER move_chunk BEFORE UPDATE OF status ON audio_chunks
    FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status
        OR OLD.file_missing_since IS DISTINCT FROM NEW.file_missing_since
        OR (OLD.status = 'ERROR' AND OLD.error_message IS DISTINCT FROM NEW.error_message))
    EXECUTE FUNCTION move_chunk();

ALTER FUNCTION keep_attempts() SET search_path FROM CURRENT;
