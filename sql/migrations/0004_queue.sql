-- The queue: who may move a chunk from where to where, enforced here, so that no client can break
-- it; leases, with the number of the attempt as their fence; a memory of what retention removed.
--
--   from \ to    UPLOADED   QUEUED       PROCESSING   DONE         ERROR        PRUNED
--   UPLOADED                service      worker       worker       worker       retention
--   QUEUED       operator                worker       worker       worker       retention
--   PROCESSING   operator   worker       (renewed)    worker       worker       retention
--   DONE         operator   operator     refused      -            fsck         retention
--   ERROR        operator   operator     refused      fsck         -            retention
--   PRUNED       refused    refused      refused      void         void         -
--
-- Workers with plain SQL know of no leases, and finish late at times. So two things are void, which
-- is to say that the statement changes no row: to end another's lease that has not expired, and to
-- finish what is finished or removed. What no worker can do by mistake is refused.

ALTER TABLE audio_chunks
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,  -- how often it was taken; the fence
    -- How many of them were made before an operator's last requeue, and do not count to MAX_ATTEMPTS.
    ADD COLUMN IF NOT EXISTS attempts_forgiven integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS worker text,  -- who has it, or had it last; NULL: plain SQL
    ADD COLUMN IF NOT EXISTS lease_expires_at timestamptz,  -- NULL: no lease
    ADD COLUMN IF NOT EXISTS finished_at timestamptz;

CREATE FUNCTION move_chunk() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- fsck gives a chunk up whose file is gone, or takes that back: see mark_file_missing.sql.
    by_fsck boolean := (coalesce(OLD.error_message, '') LIKE 'file missing (was %')
        <> (coalesce(NEW.error_message, '') LIKE 'file missing (was %');
BEGIN
    IF OLD.lease_expires_at > clock_timestamp()
        AND NEW.lease_expires_at IS NOT DISTINCT FROM OLD.lease_expires_at
    THEN
        RETURN NULL;  -- the statement does not know of the lease
    END IF;
    IF OLD.status IN ('DONE', 'ERROR', 'PRUNED') AND NEW.status IN ('DONE', 'ERROR')
        AND (OLD.status = 'PRUNED' OR NOT by_fsck)
    THEN
        RETURN NULL;  -- a late result
    END IF;
    IF OLD.status = 'PRUNED' OR (OLD.status IN ('DONE', 'ERROR') AND NEW.status = 'PROCESSING') THEN
        RAISE check_violation USING
            MESSAGE = format('a chunk cannot go from %s to %s', OLD.status, NEW.status),
            HINT = 'flask ingest requeue puts a finished chunk into the queue again';
    END IF;
    IF NEW.status = 'PROCESSING' THEN
        NEW.attempts := OLD.attempts + 1;
        NEW.processing_started_at := coalesce(NEW.processing_started_at, now());
        NEW.finished_at := NULL;
        RETURN NEW;
    END IF;
    NEW.processing_started_at := NULL;
    NEW.lease_expires_at := NULL;
    IF NEW.status IN ('DONE', 'ERROR') THEN
        NEW.finished_at := coalesce(OLD.finished_at, now());
    ELSE
        NEW.finished_at := NULL;
        NEW.worker := NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER move_chunk BEFORE UPDATE OF status ON audio_chunks
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION move_chunk();

-- Room for a lease to be renewed in place, without touching an index; and a vacuum before the dead
-- versions of what was done weigh on the indexes: by default it waits for a fifth of the table.
ALTER TABLE audio_chunks SET (
    fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000
);

CREATE TABLE pruned_chunks (
    chunk_id  uuid PRIMARY KEY,
    pruned_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pruned_chunks_pruned_at ON pruned_chunks (pruned_at);
