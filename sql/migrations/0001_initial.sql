-- Devices and chunks. Also adopts, in place, the database of the earlier Alembic-managed service:
-- its two tables, indexes and rows are kept as they are, and only what is missing is added.

CREATE TABLE IF NOT EXISTS devices (
    device_id    uuid PRIMARY KEY,
    point_id     uuid NOT NULL,
    register_id  uuid NOT NULL,
    token_hash   text NOT NULL,  -- SHA-256 of the bearer token, lower-case hex
    is_enabled   boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz
);

CREATE TABLE IF NOT EXISTS audio_chunks (
    chunk_id        uuid PRIMARY KEY,
    device_id       uuid NOT NULL,  -- a foreign key, see the end
    point_id        uuid NOT NULL,
    register_id     uuid NOT NULL,
    start_ts        timestamptz NOT NULL,
    end_ts          timestamptz NOT NULL,
    duration_sec    integer NOT NULL,
    codec           varchar(32) NOT NULL,
    sample_rate     integer NOT NULL,
    channels        integer NOT NULL,
    file_path       text NOT NULL,  -- relative to AUDIO_STORAGE_DIR
    file_size_bytes bigint NOT NULL,
    status          varchar(32) NOT NULL DEFAULT 'UPLOADED',
    created_at      timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE audio_chunks
    ADD COLUMN IF NOT EXISTS error_message text,
    ADD COLUMN IF NOT EXISTS processing_started_at timestamptz,
    ADD COLUMN IF NOT EXISTS sha256 bytea;  -- NULL: a row of the earlier service

-- Two devices must never share a token: the token alone says who is uploading.
DO $$
DECLARE
    sharing text := (
        SELECT string_agg(device_id::text, ', ' ORDER BY device_id)
        FROM devices
        WHERE token_hash IN (
            SELECT token_hash FROM devices GROUP BY token_hash HAVING count(*) > 1
        )
    );
BEGIN
    IF sharing IS NOT NULL THEN
        RAISE EXCEPTION 'these devices share a token: %', sharing
            USING HINT = 'give all but one a token of their own '
                '(flask ingest rotate-token DEVICE_ID) and run it again';
    END IF;
END $$;
CREATE UNIQUE INDEX IF NOT EXISTS devices_token_hash_key ON devices (token_hash);

CREATE INDEX IF NOT EXISTS ix_audio_chunks_point_start ON audio_chunks (point_id, start_ts);
CREATE INDEX IF NOT EXISTS ix_audio_chunks_device_start ON audio_chunks (device_id, start_ts);

-- The queue: holds only what waits, so it stays small however large the table grows.
CREATE INDEX IF NOT EXISTS ix_audio_chunks_queued ON audio_chunks (start_ts)
    WHERE status = 'QUEUED';

-- What must never be. Rows of the earlier service (no sha256) are exempt: they stay valid.
ALTER TABLE audio_chunks
    ADD CONSTRAINT audio_chunks_sha256_length CHECK (octet_length(sha256) = 32),
    ADD CONSTRAINT audio_chunks_interval CHECK (sha256 IS NULL OR end_ts > start_ts),
    ADD CONSTRAINT audio_chunks_duration CHECK (sha256 IS NULL OR duration_sec >= 0),
    ADD CONSTRAINT audio_chunks_not_empty CHECK (sha256 IS NULL OR file_size_bytes > 0),
    ADD CONSTRAINT audio_chunks_format
        CHECK (sha256 IS NULL OR (codec <> '' AND sample_rate > 0 AND channels > 0)),
    ADD CONSTRAINT audio_chunks_status
        CHECK (sha256 IS NULL
               OR status IN ('UPLOADED', 'QUEUED', 'PROCESSING', 'DONE', 'ERROR'));

-- The earlier service deleted a device's chunks with the device: the ledger must not forget them.
DO $$
DECLARE
    earlier name;
BEGIN
    FOR earlier IN
        SELECT conname FROM pg_constraint
        WHERE conrelid = 'audio_chunks'::regclass AND confrelid = 'devices'::regclass
    LOOP
        EXECUTE format('ALTER TABLE audio_chunks DROP CONSTRAINT %I', earlier);
    END LOOP;
END $$;
ALTER TABLE audio_chunks
    ADD CONSTRAINT audio_chunks_device_id_fkey FOREIGN KEY (device_id) REFERENCES devices;
