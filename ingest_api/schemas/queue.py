"""Chunks and leases, for workers."""

import dataclasses
from datetime import datetime, timedelta
from typing import Any

from marshmallow import RAISE, Schema, post_load, validate

from ingest_api.models.chunks import INTEGER_MAX, ChunkProgress
from ingest_api.models.queue import Claim, Failure
from ingest_api.schemas.fields import (
    JsonBoolean,
    JsonInteger,
    Text,
    Uuid,
    require_printable,
    rfc3339,
)

MOST_CHUNKS = 100
LONGEST_LEASE = 86_400  # seconds


class _Seconds(JsonInteger):
    """A duration in whole seconds."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        number = super()._deserialize(value, attr, data, **kwargs)
        return timedelta(seconds=validate.Range(1, LONGEST_LEASE)(number))

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return int(value.total_seconds())


class _WithLease:
    """Adds the duration of a lease."""

    lease_sec = _Seconds(
        attribute="lease",
        load_default=timedelta(seconds=300),
        metadata={"minimum": 1, "maximum": LONGEST_LEASE},
    )


class WorkerSchema(_WithLease, Schema):
    """The body of POST /internal/chunks/<chunk_id>/claim."""

    class Meta:
        unknown = RAISE

    worker = Text(required=True, validate=[validate.Length(1, 100), require_printable])


class ClaimSchema(WorkerSchema):
    """The body of POST /internal/claim."""

    limit = JsonInteger(load_default=1, validate=validate.Range(1, MOST_CHUNKS))
    point_id = Uuid(load_default=None)

    @post_load
    def _claim(self, values: dict[str, Any], **_: Any) -> Claim:
        return Claim(**values)


class AttemptSchema(Schema):
    """The body of POST /internal/chunks/<chunk_id>/done."""

    class Meta:
        unknown = RAISE

    attempt = JsonInteger(required=True, validate=validate.Range(1, INTEGER_MAX))


class ExtensionSchema(_WithLease, AttemptSchema):
    """The body of POST /internal/chunks/<chunk_id>/extend."""


class FailureSchema(AttemptSchema):
    """The body of POST /internal/chunks/<chunk_id>/error."""

    message = Text(required=True, validate=validate.Length(1, 10_000))
    retry = JsonBoolean(required=True)

    @post_load
    def _failure(self, values: dict[str, Any], **_: Any) -> dict[str, Any]:
        attempt = values.pop("attempt")
        return {"attempt": attempt, "failure": Failure(**values)}


CHUNK_FIELDS = tuple(item.name for item in dataclasses.fields(ChunkProgress))


def dump_chunk(chunk: ChunkProgress) -> dict[str, Any]:
    """Return all that is known of a chunk."""
    shown = {name: getattr(chunk, name) for name in CHUNK_FIELDS}
    times = {name: rfc3339(v) for name, v in shown.items() if isinstance(v, datetime)}
    return shown | times | {"sha256": chunk.sha256.hex() if chunk.sha256 else None}


def dump_claimed(chunk: ChunkProgress) -> dict[str, Any]:
    """Return a chunk for the worker that leases it, with the attempt number to send back."""
    return dump_chunk(chunk) | {"attempt": chunk.attempts}
