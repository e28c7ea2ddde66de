"""The shapes of answers, for the API's description. The `dump_` functions beside the other schemas
make the answers; tests hold them against these."""

from typing import Any

from marshmallow import Schema, fields, validate

from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.coverage import GapReason
from ingest_api.models.fleet import DeviceState

_SHA256 = validate.Regexp(r"[0-9a-f]{64}\Z")


def _nullable(kind: type[fields.Field[Any]], **options: Any) -> Any:
    return kind(required=True, allow_none=True, **options)


class ReceiptAnswer(Schema):
    """What an agent gets for a chunk that is safe."""

    status = fields.String(required=True, validate=validate.Equal("ok"))
    chunk_id = fields.UUID(required=True)
    stored_path = fields.String(required=True)
    queued = fields.Boolean(required=True)
    duplicate = fields.Boolean(required=True)
    sha256 = _nullable(fields.String, validate=_SHA256)
    file_size_bytes = fields.Integer(required=True)
    server_time = fields.DateTime(required=True)


class _Known(Schema):
    start_ts = fields.String(required=True)
    sha256 = fields.String(required=True)
    known = fields.Boolean(required=True)


class KnownAnswer(Schema):
    """Recordings as they were asked about, each with whether it is stored."""

    chunks = fields.List(fields.Nested(_Known), required=True)


class DeviceAnswer(Schema):
    """A registered device."""

    device_id = fields.UUID(required=True)
    point_id = fields.UUID(required=True)
    register_id = fields.UUID(required=True)
    is_enabled = fields.Boolean(required=True)
    created_at = fields.DateTime(required=True)
    last_seen_at = _nullable(fields.DateTime)
    name = _nullable(fields.String)
    point_name = _nullable(fields.String)


class _Page(Schema):
    next = _nullable(fields.String, metadata={"description": "The cursor of the next page."})


class DevicePageAnswer(_Page):
    """A page of devices."""

    devices = fields.List(fields.Nested(DeviceAnswer), required=True)


class PointAnswer(Schema):
    """What is known of a point."""

    point_id = fields.UUID(required=True)
    name = _nullable(fields.String)
    time_zone = fields.String(required=True)


class ChunkAnswer(Schema):
    """A chunk and how its processing stands. The earlier service left other statuses."""

    device_id = fields.UUID(required=True)
    point_id = fields.UUID(required=True)
    register_id = fields.UUID(required=True)
    start_ts = fields.DateTime(required=True)
    end_ts = fields.DateTime(required=True)
    codec = fields.String(required=True)
    sample_rate = fields.Integer(required=True)
    channels = fields.Integer(required=True)
    chunk_id = fields.UUID(required=True)
    duration_sec = fields.Integer(required=True)
    file_path = fields.String(required=True)
    file_size_bytes = fields.Integer(required=True)
    sha256 = _nullable(fields.String, validate=_SHA256)
    status = fields.String(required=True, metadata={"examples": list(ChunkStatus)})
    created_at = fields.DateTime(required=True)
    attempts = fields.Integer(required=True)
    worker = _nullable(fields.String)
    processing_started_at = _nullable(fields.DateTime)
    lease_expires_at = _nullable(fields.DateTime)
    error_message = _nullable(fields.String)
    finished_at = _nullable(fields.DateTime)


class ClaimedChunkAnswer(ChunkAnswer):
    """A chunk for the worker that leases it; `attempt` goes with what it reports."""

    attempt = fields.Integer(required=True)


class ClaimedChunksAnswer(Schema):
    """The chunks that a worker was given."""

    chunks = fields.List(fields.Nested(ClaimedChunkAnswer), required=True)
    server_time = fields.DateTime(required=True)


class ChunkPageAnswer(_Page):
    """A page of chunks."""

    chunks = fields.List(fields.Nested(ChunkAnswer), required=True)


class _Refusal(Schema):
    code = fields.String(required=True)
    detail = fields.String(required=True)
    time = fields.DateTime(required=True)
    count = fields.Integer(required=True)


class _Shares(Schema):
    today = _nullable(fields.Float)
    last_7_days = fields.Float(required=True)


class FleetDeviceAnswer(Schema):
    """A device and what it is doing."""

    device_id = fields.UUID(required=True)
    name = _nullable(fields.String)
    point_id = fields.UUID(required=True)
    point_name = _nullable(fields.String)
    register_id = fields.UUID(required=True)
    time_zone = fields.String(required=True)
    state = fields.Enum(DeviceState, by_value=True, required=True)
    since = fields.DateTime(required=True)
    recorded_until = _nullable(fields.DateTime)
    last_seen_at = _nullable(fields.DateTime)
    clock_offset = _nullable(fields.Float)
    refusal = fields.Nested(_Refusal, required=True, allow_none=True)
    coverage = fields.Nested(_Shares, required=True)


class FleetAnswer(_Page):
    """A page of the fleet, the worst first; `counts` is of all devices, by state."""

    counts = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    devices = fields.List(fields.Nested(FleetDeviceAnswer), required=True)


class _Step(Schema):
    from_ = fields.DateTime(required=True, data_key="from")
    share = _nullable(fields.Float)


class _Interval(Schema):
    from_ = fields.DateTime(required=True, data_key="from")
    to = fields.DateTime(required=True)


class _Gap(_Interval):
    reason = fields.Enum(GapReason, by_value=True, required=True)


class DeviceCoverageAnswer(Schema):
    """What a device recorded in a time."""

    device_id = fields.UUID(required=True)
    name = _nullable(fields.String)
    point_id = fields.UUID(required=True)
    point_name = _nullable(fields.String)
    register_id = fields.UUID(required=True)
    share = _nullable(fields.Float)
    steps = fields.List(fields.Nested(_Step), required=True)
    gaps = fields.List(fields.Nested(_Gap), required=True)
    overlaps = fields.List(fields.Nested(_Interval), required=True)


class CoverageAnswer(_Interval):
    """What devices recorded in a time."""

    step_seconds = fields.Integer(required=True)
    time_zone = fields.String(required=True)
    devices = fields.List(fields.Nested(DeviceCoverageAnswer), required=True)


class HealthAnswer(Schema):
    """Whether an upload could be stored now."""

    status = fields.String(required=True, validate=validate.OneOf(["ok", "degraded"]))
    db = fields.Boolean(required=True)
    storage_writable = fields.Boolean(required=True)
    time = fields.DateTime(required=True)


class LiveAnswer(Schema):
    """The process serves."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


class ProblemAnswer(Schema):
    """An error (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    request_id = fields.String(required=True)
    errors = fields.Dict(metadata={"description": "By field, what is wrong with it."})
