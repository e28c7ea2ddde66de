-- What the ledger is asked for: names, which minutes were recorded, the newest recording of each
-- device, and what was refused last. It locks `devices` for a moment and rewrites nothing.
--
-- The minutes of the chunks that are there already are not filled in here, because that may take
-- long. Afterwards, beside the running service: flask ingest coverage --rebuild

ALTER TABLE devices
    ADD COLUMN name text CONSTRAINT devices_name CHECK (char_length(name) BETWEEN 1 AND 200),
    ADD COLUMN recorded_until timestamptz,
    ADD COLUMN recording_since timestamptz,
    ADD COLUMN clock_offset interval,
    ADD COLUMN disabled_at timestamptz;

COMMENT ON COLUMN devices.name IS 'for people; NULL: none';
COMMENT ON COLUMN devices.recorded_until IS 'the newest end of a recording, at most a minute ahead';
COMMENT ON COLUMN devices.recording_since IS 'the start of its recordings since the last long gap';
COMMENT ON COLUMN devices.clock_offset IS 'how far its clock is ahead; NULL: unknown';
COMMENT ON COLUMN devices.disabled_at IS 'NULL: enabled, or disabled before this was kept';

CREATE TABLE points (
    point_id uuid PRIMARY KEY,
    name text CONSTRAINT points_name CHECK (char_length(name) BETWEEN 1 AND 200),
    time_zone text NOT NULL DEFAULT 'UTC'
);

COMMENT ON TABLE points IS 'what is known of points; one without a row has no name and is in UTC';
COMMENT ON COLUMN points.name IS 'for people; NULL: none';
COMMENT ON COLUMN points.time_zone IS 'an IANA name: whose midnights its days begin at';

CREATE TABLE recorded_hours (
    device_id uuid NOT NULL REFERENCES devices ON DELETE CASCADE,
    hour timestamptz NOT NULL,
    minutes bigint NOT NULL,
    chunks integer NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (device_id, hour)
) WITH (fillfactor = 80);

COMMENT ON TABLE recorded_hours IS 'which minutes each device has recorded; outlives the audio';
COMMENT ON COLUMN recorded_hours.hour IS 'its beginning, in UTC';
COMMENT ON COLUMN recorded_hours.minutes IS 'bit n: a recording covers second 30 of minute n';
COMMENT ON COLUMN recorded_hours.chunks IS 'accepted chunks that start in this hour';
COMMENT ON COLUMN recorded_hours.bytes IS 'of these chunks';

CREATE TABLE refusals (
    device_id uuid PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    code text NOT NULL,
    detail text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    count bigint NOT NULL
);

COMMENT ON TABLE refusals IS 'the uploads of a device that were refused for what they contain';
COMMENT ON COLUMN refusals.code IS 'of the last one; see ingest_api/errors.py';
COMMENT ON COLUMN refusals.first_at IS 'the first one since the last upload that was accepted';
COMMENT ON COLUMN refusals.count IS 'at least so many since then';

-- These functions are inlined, so they use immutable operators alone: `timestamptz + interval` depends
-- on the session's time zone, `timestamptz - timestamptz` does not.

CREATE FUNCTION minutes_between(hour timestamptz, from_ts timestamptz, until_ts timestamptz)
    RETURNS bigint
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

CREATE FUNCTION believed_end(start_ts timestamptz, end_ts timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    -- The end of a recording. If its clock was set meanwhile, it may seem to take years: one of
    -- over 24 hours counts at its start alone.
    SELECT CASE WHEN end_ts - start_ts <= interval '24 hours' THEN end_ts ELSE start_ts END
$$;

CREATE FUNCTION hours_of(start_ts timestamptz, end_ts timestamptz) RETURNS SETOF timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
    AS $$
    -- The hours that a recording touches, in order.
    SELECT generate_series(
        date_bin('1 hour', start_ts, 'epoch'),
        greatest(start_ts, believed_end(start_ts, end_ts) - interval '1 microsecond'),
        '1 hour'
    )
$$;

CREATE FUNCTION device_state(
    is_enabled boolean, last_seen_at timestamptz, recorded_until timestamptz,
    refused_at timestamptz, late_after interval, silent_after interval
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

DO $$
BEGIN
    IF EXISTS (SELECT FROM audio_chunks) THEN
        RAISE NOTICE USING
            ERRCODE = '01ING',  -- for operators
            MESSAGE = 'Afterwards enter the chunks of before: flask ingest coverage --rebuild';
    END IF;
END $$;
