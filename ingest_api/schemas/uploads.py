"""An upload: the agent's description of a chunk, and the receipt."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import EXCLUDE, Schema, fields, validate
from werkzeug.datastructures import MultiDict

from ingest_api.errors import InvalidInterval
from ingest_api.models.chunks import INTEGER_MAX, ChunkStatus, Receipt, Recording, UploadForm
from ingest_api.schemas.fields import (
    FormInteger,
    IsoDateTime,
    Sha256,
    Uuid,
    load,
    rfc3339,
    validation_failed,
)
from ingest_api.schemas.instants import instants


class RecordingSchema(Schema):
    """The form fields of an upload. Unknown ones are ignored: an agent may be newer than the
    service, and a refusal would block its spool for ever."""

    class Meta:
        unknown = EXCLUDE

    device_id = Uuid(required=True)
    point_id = Uuid(required=True)
    register_id = Uuid(required=True)
    start_ts = IsoDateTime(required=True, metadata={"examples": ["2026-01-28T10:00:00Z"]})
    end_ts = IsoDateTime(required=True, metadata={"examples": ["2026-01-28T10:01:00Z"]})
    codec = fields.String(
        required=True,
        metadata={"examples": ["opus"]},
        validate=validate.Regexp(
            r"[\x21-\x7e][\x20-\x7e]{0,31}\Z", error="Must be 1 to 32 printable ASCII characters."
        ),
    )
    sample_rate = FormInteger(required=True, validate=validate.Range(1, INTEGER_MAX))
    channels = FormInteger(required=True, validate=validate.Range(1, 255))
    sent_at = IsoDateTime()
    sha256 = Sha256()


_RECORDING = RecordingSchema()
_REQUIRED = {name for name, field in _RECORDING.fields.items() if field.required}


def names_chunk(form: "MultiDict[str, str]", digest: bytes | None) -> bool:
    """Return whether these fields and this digest of the head suffice to name a chunk: an agent may
    send some of them after the file, or no digest."""
    return ("sha256" in form or digest is not None) and form.keys() >= _REQUIRED


def load_upload(
    form: "MultiDict[str, str]", naive_zone: ZoneInfo | None, digest: bytes | None = None
) -> UploadForm:
    """Return what the form fields say, and the digest in the request's head. Times without an
    offset are in `naive_zone`.

    ValidationFailed, NaiveTimestamp, InvalidInterval.
    """
    repeated = [name for name in _RECORDING.fields if len(form.getlist(name)) > 1]
    if repeated:
        raise validation_failed({name: ["Sent more than once."] for name in repeated})
    values = load(_RECORDING, form.to_dict())
    starts = instants("start_ts", values["start_ts"], naive_zone)
    ends = instants("end_ts", values["end_ts"], naive_zone)
    values["start_ts"], values["end_ts"] = _shortest_interval(starts, ends)
    sent_at = values.pop("sent_at", None)
    sent = sent_at and instants("sent_at", sent_at, naive_zone)[0]
    sha256 = values.pop("sha256", digest)
    if digest not in {None, sha256}:
        raise validation_failed({"sha256": ["Differs from the Repr-Digest of the request."]})
    return UploadForm(Recording(**values), sent_at=sent, sha256=sha256)


def _shortest_interval(starts: list[datetime], ends: list[datetime]) -> tuple[datetime, datetime]:
    intervals = [(start, end) for start in starts for end in ends if end > start]
    if not intervals:
        raise InvalidInterval
    return min(intervals, key=lambda interval: interval[1] - interval[0])


def dump_receipt(receipt: Receipt) -> dict[str, Any]:
    chunk = receipt.chunk
    return {
        "status": "ok",
        "chunk_id": chunk.chunk_id,
        "stored_path": chunk.file_path,
        "queued": chunk.status != ChunkStatus.UPLOADED,
        "duplicate": receipt.duplicate,
        "sha256": chunk.sha256.hex() if chunk.sha256 else None,
        "file_size_bytes": chunk.file_size_bytes,
        "server_time": rfc3339(datetime.now(UTC)),
    }
