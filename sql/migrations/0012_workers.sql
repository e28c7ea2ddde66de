-- The triggers' functions find our tables, whatever a worker has made: a temporary table is found before
-- every other unless pg_temp is named, and "$user" is the worker's own schema.
DO $$
DECLARE
    ours text := (
        SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'audio_chunks'::regclass
    );
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['move_chunk', 'keep_attempts'] LOOP
        EXECUTE format(
            'ALTER FUNCTION %s.%I() SET search_path = pg_catalog, %s, pg_temp', ours, name, ours
        );
    END LOOP;
END $$;

-- Workers write this column. Beyond these times nobody else could read the row.
ALTER TABLE audio_chunks ADD CONSTRAINT ck_audio_chunks_processing_started_at CHECK (
    processing_started_at >= '2000-01-01 00:00+00' AND processing_started_at < '3000-01-01 00:00+00'
) NOT VALID;

-- Retention removes the file of whatever is marked, whoever has marked it.
CREATE FUNCTION may_prune() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT has_table_privilege(TG_RELID, 'DELETE') THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'only retention marks a chunk as PRUNED: it needs DELETE on the table';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER may_prune BEFORE UPDATE OF status ON audio_chunks
    FOR EACH ROW
    WHEN (NEW.status = 'PRUNED' AND OLD.status <> 'PRUNED')
    EXECUTE FUNCTION may_prune();
