-- The schema as all migrations together make it, for reading. `flask ingest migrate` makes it.
-- Written by tests/database/test_schema.py from pg_dump; do not edit.

-- who may upload
CREATE TABLE devices (
    device_id uuid NOT NULL,
    point_id uuid NOT NULL,
    register_id uuid NOT NULL,
    token_hash text NOT NULL,  -- SHA-256 of the bearer token, in lower-case hex
    is_enabled boolean DEFAULT true NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    last_seen_at timestamptz,  -- when its last upload was accepted
    name text,  -- for people; NULL: none
    recorded_until timestamptz,  -- the newest end of a recording, at most a minute ahead
    recording_since timestamptz,  -- the start of its recordings since the last long gap
    clock_offset interval,  -- how far its clock is ahead; NULL: unknown
    disabled_at timestamptz,  -- NULL: enabled, or disabled before this was kept
    CONSTRAINT devices_name CHECK ((char_length(name) >= 1) AND (char_length(name) <= 200))
);

ALTER TABLE devices ADD CONSTRAINT devices_pkey PRIMARY KEY (device_id);
CREATE UNIQUE INDEX devices_token_hash_key ON devices (token_hash);

-- accepted uploads: the file is durable before its row is written
CREATE TABLE audio_chunks (
    chunk_id uuid NOT NULL,  -- a UUIDv8 computed from the upload
    device_id uuid NOT NULL,
    point_id uuid NOT NULL,
    register_id uuid NOT NULL,
    start_ts timestamptz NOT NULL,
    end_ts timestamptz NOT NULL,
    duration_sec integer NOT NULL,
    codec varchar(32) NOT NULL,
    sample_rate integer NOT NULL,
    channels integer NOT NULL,
    file_path text NOT NULL,  -- relative to AUDIO_STORAGE_DIR
    file_size_bytes bigint NOT NULL,
    status varchar(32) DEFAULT 'UPLOADED' NOT NULL,  -- see sql/README.md
    created_at timestamptz DEFAULT now() NOT NULL,  -- when the upload was accepted
    error_message text,  -- why it is ERROR, or is tried again
    processing_started_at timestamptz,  -- NULL unless PROCESSING
    sha256 bytea,  -- NULL: a row of the earlier service
    attempts integer DEFAULT 0 NOT NULL,  -- how often it was taken; the fence of a lease
    attempts_forgiven integer DEFAULT 0 NOT NULL,  -- those before an operator's last requeue
    worker text,  -- who has it, or had it last; NULL: plain SQL
    lease_expires_at timestamptz,  -- NULL: no lease
    finished_at timestamptz,  -- NULL unless DONE or ERROR
    file_missing_since timestamptz,  -- when fsck missed its file; NULL: it has not
    status_before text,  -- what to restore when the file returns
    error_message_before text,  -- likewise
    CONSTRAINT audio_chunks_duration CHECK ((sha256 IS NULL) OR (duration_sec >= 0)),
    CONSTRAINT audio_chunks_format
        CHECK ((sha256 IS NULL) OR ((codec <> '') AND (sample_rate > 0) AND (channels > 0))),
    CONSTRAINT audio_chunks_interval CHECK ((sha256 IS NULL) OR (end_ts > start_ts)),
    CONSTRAINT audio_chunks_not_empty CHECK ((sha256 IS NULL) OR (file_size_bytes > 0)),
    CONSTRAINT audio_chunks_sha256_length CHECK (octet_length(sha256) = 32)
)
WITH (fillfactor='90', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000');

ALTER TABLE audio_chunks
    ADD CONSTRAINT audio_chunks_file_missing
    CHECK (((file_missing_since IS NULL) = (status_before IS NULL))
    AND ((file_missing_since IS NULL) OR (status = 'ERROR'))
    AND ((file_missing_since IS NOT NULL) OR (error_message_before IS NULL))) NOT VALID;
ALTER TABLE audio_chunks
    ADD CONSTRAINT audio_chunks_status
    CHECK ((sha256 IS NULL)
    OR (status IN ('UPLOADED', 'QUEUED', 'PROCESSING', 'DONE', 'ERROR', 'PRUNED'))) NOT VALID;
ALTER TABLE audio_chunks
    ADD CONSTRAINT ck_audio_chunks_processing_started_at
    CHECK ((processing_started_at >= '2000-01-01 00:00:00+00'::timestamptz) AND (processing_started_at < '3000-01-01 00:00:00+00'::timestamptz)) NOT VALID;
ALTER TABLE audio_chunks ADD CONSTRAINT audio_chunks_pkey PRIMARY KEY (chunk_id);
ALTER TABLE audio_chunks
    ADD CONSTRAINT audio_chunks_device_id_fkey
    FOREIGN KEY (device_id) REFERENCES devices(device_id);
CREATE INDEX ix_audio_chunks_device_start ON audio_chunks (device_id, start_ts, chunk_id)
    INCLUDE (end_ts);
CREATE INDEX ix_audio_chunks_file_missing ON audio_chunks (device_id, start_ts)
    WHERE (file_missing_since IS NOT NULL);
CREATE INDEX ix_audio_chunks_finished ON audio_chunks (status, created_at)
    WHERE (status IN ('DONE', 'ERROR', 'PRUNED'));
CREATE INDEX ix_audio_chunks_finished_at ON audio_chunks (finished_at)
    WHERE (finished_at IS NOT NULL);
CREATE INDEX ix_audio_chunks_lease ON audio_chunks (lease_expires_at)
    WHERE (lease_expires_at IS NOT NULL);
CREATE INDEX ix_audio_chunks_long ON audio_chunks (start_ts)
    WHERE ((end_ts - start_ts) > '00:02:00'::interval);
CREATE INDEX ix_audio_chunks_point_start ON audio_chunks (point_id, start_ts);
CREATE INDEX ix_audio_chunks_processing ON audio_chunks (start_ts) WHERE (status = 'PROCESSING');
CREATE INDEX ix_audio_chunks_queued ON audio_chunks (start_ts) WHERE (status = 'QUEUED');
CREATE INDEX ix_audio_chunks_status_start ON audio_chunks (status, start_ts, chunk_id)
    INCLUDE (end_ts);
CREATE INDEX ix_audio_chunks_turn ON audio_chunks (point_id, device_id, start_ts)
    WHERE (status = 'QUEUED');
CREATE INDEX ix_audio_chunks_uploaded ON audio_chunks (start_ts) WHERE (status = 'UPLOADED');

-- chunks that retention removed, remembered for a week
CREATE TABLE pruned_chunks (
    chunk_id uuid NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,  -- to go on from, should the chunk be sent again
    pruned_at timestamptz DEFAULT now() NOT NULL
);

ALTER TABLE pruned_chunks ADD CONSTRAINT pruned_chunks_pkey PRIMARY KEY (chunk_id);
CREATE INDEX pruned_chunks_pruned_at ON pruned_chunks (pruned_at);

-- the files of sql/migrations that were applied
CREATE TABLE schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,  -- of the file, which is never edited
    applied_at timestamptz DEFAULT now() NOT NULL
);

ALTER TABLE schema_migrations ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

-- when each maintenance command was last complete
CREATE TABLE maintenance_runs (
    name text NOT NULL,  -- backup or fsck
    finished_at timestamptz NOT NULL
);

ALTER TABLE maintenance_runs ADD CONSTRAINT maintenance_runs_pkey PRIMARY KEY (name);

-- what is known of points; one without a row has no name and is in UTC
CREATE TABLE points (
    point_id uuid NOT NULL,
    name text,  -- for people; NULL: none
    time_zone text DEFAULT 'UTC' NOT NULL,  -- an IANA name: whose midnights its days begin at
    CONSTRAINT points_name CHECK ((char_length(name) >= 1) AND (char_length(name) <= 200))
);

ALTER TABLE points ADD CONSTRAINT points_pkey PRIMARY KEY (point_id);

-- which minutes each device has recorded; outlives the audio
CREATE TABLE recorded_hours (
    device_id uuid NOT NULL,
    hour timestamptz NOT NULL,  -- its beginning, in UTC
    minutes bigint NOT NULL,  -- bit n: a recording covers second 30 of minute n
    chunks integer NOT NULL,  -- accepted chunks that start in this hour
    bytes bigint NOT NULL  -- of these chunks
)
WITH (fillfactor='80');

ALTER TABLE recorded_hours ADD CONSTRAINT recorded_hours_pkey PRIMARY KEY (device_id, hour);
ALTER TABLE recorded_hours
    ADD CONSTRAINT recorded_hours_device_id_fkey
    FOREIGN KEY (device_id) REFERENCES devices(device_id) ON DELETE CASCADE;

-- the uploads of a device that were refused for what they contain
CREATE TABLE refusals (
    device_id uuid NOT NULL,
    code text NOT NULL,  -- of the last one; see ingest_api/errors.py
    detail text NOT NULL,
    first_at timestamptz NOT NULL,  -- the first one since the last upload that was accepted
    last_at timestamptz NOT NULL,
    count bigint NOT NULL  -- at least so many since then
);

ALTER TABLE refusals ADD CONSTRAINT refusals_pkey PRIMARY KEY (device_id);
ALTER TABLE refusals
    ADD CONSTRAINT refusals_device_id_fkey
    FOREIGN KEY (device_id) REFERENCES devices(device_id) ON DELETE CASCADE;

CREATE FUNCTION believed_end(start_ts timestamptz, end_ts timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    -- The end of a recording. If its clock was set meanwhile, it may seem to take years: one of
    -- over 24 hours counts at its start alone.
    SELECT CASE WHEN end_ts - start_ts <= interval '24 hours' THEN end_ts ELSE start_ts END
$$;

CREATE FUNCTION device_state(
        is_enabled boolean, last_seen_at timestamptz, recorded_until timestamptz, refused_at
        timestamptz, late_after interval, silent_after interval
    ) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    -- What a device is doing; see ingest_api/models/fleet.py.
    SELECT CASE
        WHEN NOT is_enabled THEN 'disabled'
        WHEN last_seen_at IS NULL AND refused_at IS NULL THEN 'never'
        WHEN greatest(last_seen_at, refused_at) < now() - silent_after THEN 'silent'
        WHEN last_seen_at IS NULL OR refused_at > last_seen_at THEN 'refused'
        WHEN coalesce(recorded_until, '-infinity') < now() - late_after THEN 'late'
        ELSE 'recording'
    END
$$;

CREATE FUNCTION hours_of(start_ts timestamptz, end_ts timestamptz) RETURNS SETOF timestamptz
    LANGUAGE sql STABLE ROWS 1 PARALLEL SAFE
    AS $$
    -- The hours that a recording touches, in order.
    SELECT generate_series(
        date_bin('1 hour', start_ts, 'epoch'),
        greatest(start_ts, believed_end(start_ts, end_ts) - interval '1 microsecond'),
        '1 hour'
    )
$$;

CREATE FUNCTION keep_attempts() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'attempts is counted by the database: it is the fence';
END $$;

CREATE FUNCTION may_prune() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF NOT has_table_privilege(TG_RELID, 'DELETE') THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'only retention marks a chunk as PRUNED: it needs DELETE on the table';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION minutes_between(
        hour timestamptz, from_ts timestamptz, until_ts timestamptz
    ) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    -- The minutes of an hour whose second 30 lies in [from_ts, until_ts), as bits.
    SELECT CASE
        WHEN from_ts - hour >= interval '1 hour' OR until_ts <= hour OR until_ts <= from_ts THEN 0
        ELSE (-1::bigint
                << greatest(0, ceil((extract(epoch FROM from_ts - hour) - 30) / 60))::integer)
            & ((1::bigint
                << least(60, ceil((extract(epoch FROM until_ts - hour) - 30) / 60))::integer) - 1)
    END
$$;

CREATE FUNCTION move_chunk() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
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

CREATE TRIGGER keep_attempts BEFORE UPDATE OF attempts ON audio_chunks
    FOR EACH ROW WHEN (old.attempts IS DISTINCT FROM new.attempts)
    EXECUTE FUNCTION keep_attempts();

CREATE TRIGGER may_prune BEFORE UPDATE OF status ON audio_chunks
    FOR EACH ROW WHEN ((new.status = 'PRUNED') AND (old.status <> 'PRUNED'))
    EXECUTE FUNCTION may_prune();

CREATE TRIGGER move_chunk BEFORE UPDATE OF status ON audio_chunks
    FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)
    OR (old.file_missing_since IS DISTINCT FROM new.file_missing_since)
    OR ((old.status = 'ERROR') AND (old.error_message IS DISTINCT FROM new.error_message)))
    EXECUTE FUNCTION move_chunk();
