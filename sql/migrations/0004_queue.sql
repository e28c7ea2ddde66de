-- The queue: who may move a chunk from where to where, enforced here, so that no client can break
-- it; leases, with the number of the attempt as their fence; a memory of what retention removed.
--
--   from \ to    UPLOADED   QUEUED            PROCESSING   DONE     ERROR          PRUNED
--   UPLOADED     -          service, relay    worker       worker   worker, fsck   retention
--   QUEUED       operator   -                 worker       worker   worker, fsck   retention
--   PROCESSING   operator   worker, service   (renewed)    worker   worker, fsck   retention
--   DONE         operator   operator          refused      -        fsck           retention
--   ERROR        operator   operator, fsck    refused      fsck     -              retention
--   PRUNED       refused    refused           refused      void     void           -
--
-- Workers with plain SQL know of no leases, and finish late at times. So two things are void, which
-- is to say that the row stays as it is, without an error: to end another's lease that has not
-- expired, and to finish what is finished or removed. What no worker does by mistake is refused.

ALTER TABLE audio_chunks
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,  -- how often it was taken; the fence
    -- How many of them were made before an operator's last requeue, and do not count to MAX_ATTEMPTS.
    ADD COLUMN IF NOT EXISTS attempts_forgiven integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS worker text,  -- who has it, or had it last; NULL: plain SQL
    ADD COLUMN IF NOT EXISTS lease_expires_at timestamptz,  -- NULL: no lease
    ADD COLUMN IF NOT EXISTS finished_at timestamptz;

CREATE TABLE pruned_chunks (
    chunk_id  uuid PRIMARY KEY,
    attempts  integer NOT NULL DEFAULT 0,  -- to go on from, should the chunk be sent again
    pruned_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pruned_chunks_pruned_at ON pruned_chunks (pruned_at);

CREATE FUNCTION move_chunk() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- fsck gives a chunk up whose file is gone, and takes that back: see mark_file_missing.sql and
    -- restore_chunk.sql.
    was_given_up boolean := OLD.status = 'ERROR'
        AND coalesce(OLD.error_message, '') LIKE 'file missing (was %';
    gives_up boolean := coalesce(NEW.error_message, '') LIKE 'file missing (was %'
        AND NOT was_given_up;
    takes_back boolean := was_given_up
        AND OLD.error_message LIKE 'file missing (was ' || NEW.status || '%'
        AND NEW.error_message IS NOT DISTINCT FROM
            substring(OLD.error_message from '^file missing \(was [^:)]+: (.*)\)$');
    knows_of_leases boolean := NEW.lease_expires_at IS DISTINCT FROM OLD.lease_expires_at;
BEGIN
    IF OLD.lease_expires_at > clock_timestamp() AND NOT knows_of_leases THEN
        RETURN OLD;
    END IF;
    IF OLD.status IN ('DONE', 'ERROR', 'PRUNED') AND NEW.status IN ('DONE', 'ERROR')
        AND (OLD.status = 'PRUNED' OR NOT (gives_up OR takes_back))
    THEN
        RETURN OLD;  -- a late result
    END IF;
    IF OLD.status = 'PRUNED' OR (OLD.status IN ('DONE', 'ERROR') AND NEW.status = 'PROCESSING') THEN
        RAISE check_violation USING
            MESSAGE = format('a chunk cannot go from %s to %s', OLD.status, NEW.status),
            HINT = 'flask ingest requeue puts a finished chunk into the queue again';
    END IF;
    IF NOT takes_back
        AND NEW.status NOT IN ('UPLOADED', 'QUEUED', 'PROCESSING', 'DONE', 'ERROR', 'PRUNED')
    THEN
        RAISE check_violation USING MESSAGE = format('there is no status %s', NEW.status);
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

CREATE TRIGGER move_chunk BEFORE UPDATE OF status ON audio_chunks
    FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status
        OR (OLD.status = 'ERROR' AND OLD.error_message IS DISTINCT FROM NEW.error_message))
    EXECUTE FUNCTION move_chunk();

CREATE FUNCTION keep_attempts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'attempts is counted by the database: it is the fence';
END $$;

CREATE TRIGGER keep_attempts BEFORE UPDATE OF attempts ON audio_chunks
    FOR EACH ROW WHEN (OLD.attempts IS DISTINCT FROM NEW.attempts)
    EXECUTE FUNCTION keep_attempts();

-- Room for a lease to be renewed in place, without touching an index; and a vacuum before the dead
-- versions of what was done weigh on the indexes: by default it waits for a fifth of the table.
ALTER TABLE audio_chunks SET (
    fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000
);
