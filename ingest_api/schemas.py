"""The shapes of what comes in and goes out, as marshmallow schemas. Touches no database.

Incoming text is hostile: each field accepts what its standard allows and nothing else.
"""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, validate
from werkzeug.datastructures import MultiDict

from ingest_api.errors import InvalidInterval, NaiveTimestamp, ValidationFailed
from ingest_api.models import INTEGER_MAX, Chunk, Device, Receipt, Recording
from ingest_api.tokens import TOKEN_PATTERN, TOKEN_RULE

# RFC 9562, section 4, with the spellings that other tools print: URN, braces, no dashes.
_UUID = re.compile(
    r"(?:urn:uuid:)?(\{)?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?(1)\})", re.IGNORECASE
)

_DATE_AND_TIME = re.compile(r"[0-9W-]+[T ][0-9:.,]+(?:Z|[+-][0-9:.,]+)?")


def parse_uuid(text: str) -> UUID:
    """ValueError unless `text` is a UUID in a legal spelling (`uuid.UUID` alone takes more)."""
    if not _UUID.fullmatch(text):
        raise ValueError("not a UUID")
    return UUID(text)


def rfc3339(instant: datetime) -> str:
    """In UTC with a Z, as in `2026-01-28T10:00:00.123456Z`."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Uuid(fields.UUID):
    """See `parse_uuid`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> UUID:
        try:
            return parse_uuid(value)
        except (TypeError, ValueError):
            raise self.make_error("invalid_uuid") from None


class IsoDateTime(fields.DateTime):
    """A date and a time in ISO 8601 (`fromisoformat` alone takes a date without a time, any
    character between the two, and a NUL at the end)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        value = value.upper()  # RFC 3339, section 5.6, allows a lower-case t and z as well
        if not _DATE_AND_TIME.fullmatch(value):
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        return super()._deserialize(value, attr, data, **kwargs)


class FormInteger(fields.Integer):
    """A number as forms send it: digits only (`int` also takes 4_8, signs and other scripts)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", value):
            raise self.make_error("invalid", input=value)
        return int(value)


class JsonBoolean(fields.Boolean):
    """true or false, not the words and numbers that stand for them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class RecordingSchema(Schema):
    """The form fields of an upload. Unknown ones are ignored: an agent may be newer than the
    service, and a refusal would block its spool for ever."""

    class Meta:
        unknown = EXCLUDE

    device_id = Uuid(required=True)
    point_id = Uuid(required=True)
    register_id = Uuid(required=True)
    start_ts = IsoDateTime(required=True)
    end_ts = IsoDateTime(required=True)
    codec = fields.String(
        required=True,
        validate=validate.Regexp(
            r"[\x21-\x7e][\x20-\x7e]{0,31}\Z", error="Must be 1 to 32 printable ASCII characters."
        ),
    )
    sample_rate = FormInteger(required=True, validate=validate.Range(1, INTEGER_MAX))
    channels = FormInteger(required=True, validate=validate.Range(1, 255))


_RECORDING = RecordingSchema()


def load_recording(form: "MultiDict[str, str]", naive_zone: ZoneInfo | None) -> Recording:
    """Check the form fields of an upload. Times without an offset are read in `naive_zone`.

    ValidationFailed, NaiveTimestamp, InvalidInterval.
    """
    repeated = [name for name in _RECORDING.fields if len(form.getlist(name)) > 1]
    if repeated:
        raise _validation_failed({name: ["Sent more than once."] for name in repeated})
    values = load(_RECORDING, form.to_dict())
    starts = _instants("start_ts", values["start_ts"], naive_zone)
    ends = _instants("end_ts", values["end_ts"], naive_zone)
    values["start_ts"], values["end_ts"] = _shortest_interval(starts, ends)
    return Recording(**values)


def _instants(name: str, value: datetime, naive_zone: ZoneInfo | None) -> list[datetime]:
    """The instants in UTC that a timestamp may mean: two when clocks are set back (PEP 495)."""
    if value.tzinfo is not None:
        readings = [value]
    elif naive_zone is not None:
        readings = [value.replace(tzinfo=naive_zone, fold=fold) for fold in (0, 1)]
    else:
        raise NaiveTimestamp(errors={name: ["Has no offset from UTC."]})
    try:
        return [reading.astimezone(UTC) for reading in readings]
    except OverflowError:
        raise _validation_failed({name: ["Is outside the years 1 to 9999 in UTC."]}) from None


def _shortest_interval(starts: list[datetime], ends: list[datetime]) -> tuple[datetime, datetime]:
    intervals = [(start, end) for start in starts for end in ends if end > start]
    if not intervals:
        raise InvalidInterval
    return min(intervals, key=lambda interval: interval[1] - interval[0])


class NewDeviceSchema(Schema):
    """The body of POST /admin/devices."""

    class Meta:
        unknown = RAISE

    device_id = Uuid(required=True)
    point_id = Uuid(required=True)
    register_id = Uuid(required=True)
    token_plain = fields.String(
        required=True, validate=validate.Regexp(TOKEN_PATTERN.pattern + r"\Z", error=TOKEN_RULE)
    )


class DeviceChangeSchema(Schema):
    """The body of PATCH /admin/devices/<device_id>."""

    class Meta:
        unknown = RAISE

    is_enabled = JsonBoolean()
    token_plain = fields.String(
        validate=validate.Regexp(TOKEN_PATTERN.pattern + r"\Z", error=TOKEN_RULE)
    )


def load(schema: Schema, data: Any) -> dict[str, Any]:
    """Check `data` against `schema`; ValidationFailed names the fields."""
    try:
        values: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise _validation_failed(dict(error.messages_dict)) from None
    return values


def _validation_failed(errors: dict[str, Any]) -> ValidationFailed:
    names = ", ".join(sorted(map(str, errors)))
    return ValidationFailed(f"{ValidationFailed.message}: {names}", errors=errors)


def dump_device(device: Device) -> dict[str, Any]:
    return {
        "device_id": device.device_id,
        "point_id": device.point_id,
        "register_id": device.register_id,
        "is_enabled": device.is_enabled,
        "created_at": rfc3339(device.created_at),
        "last_seen_at": rfc3339(device.last_seen_at) if device.last_seen_at else None,
    }


def dump_chunk(chunk: Chunk) -> dict[str, Any]:
    return vars(chunk) | {
        "start_ts": rfc3339(chunk.start_ts),
        "end_ts": rfc3339(chunk.end_ts),
        "created_at": rfc3339(chunk.created_at),
        "sha256": chunk.sha256.hex() if chunk.sha256 else None,
    }


def dump_receipt(receipt: Receipt) -> dict[str, Any]:
    chunk = receipt.chunk
    return {
        "status": "ok",
        "chunk_id": chunk.chunk_id,
        "stored_path": chunk.file_path,
        "queued": chunk.status != "UPLOADED",
        "duplicate": receipt.duplicate,
        "sha256": chunk.sha256.hex() if chunk.sha256 else None,
        "file_size_bytes": chunk.file_size_bytes,
        "server_time": rfc3339(datetime.now(UTC)),
    }
