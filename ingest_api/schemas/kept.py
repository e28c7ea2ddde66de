"""Recordings that a device has kept, and which of them are stored."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from ingest_api.models.chunks import KeptRecording
from ingest_api.schemas.fields import IsoDateTime, Sha256, validation_failed
from ingest_api.schemas.instants import instants

MOST_RECORDINGS = 500
MOST_ERRORS = 20


class KeptRecordingSchema(Schema):
    """An entry of `chunks`."""

    class Meta:
        unknown = RAISE

    start_ts = IsoDateTime(required=True)
    sha256 = Sha256(required=True)


class KeptRecordingsSchema(Schema):
    """The body of POST /chunks/known."""

    class Meta:
        unknown = RAISE

    chunks = fields.List(
        fields.Nested(KeptRecordingSchema),
        required=True,
        validate=validate.Length(max=MOST_RECORDINGS),
    )


_KEPT = KeptRecordingsSchema()


def load_kept(body: Any, naive_zone: ZoneInfo | None) -> list[KeptRecording]:
    """Return what a device asks about. Times without an offset are in `naive_zone`.

    ValidationFailed, NaiveTimestamp.
    """
    try:
        entries = _KEPT.load(body)["chunks"]
    except ValidationError as error:
        raise validation_failed(dict(islice(_flat(error.messages_dict), MOST_ERRORS))) from None
    return [
        KeptRecording(
            tuple(instants(f"chunks.{at}.start_ts", entry["start_ts"], naive_zone)),
            entry["sha256"],
        )
        for at, entry in enumerate(entries)
    ]


def dump_known(body: Any, known: list[bool]) -> dict[str, Any]:
    """Return the recordings of a valid body, as they were sent, each with whether it is known."""
    entries = zip(body["chunks"], known, strict=True)
    return {"chunks": [entry | {"known": is_known} for entry, is_known in entries]}


def _flat(messages: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the messages of entries by a path, such as `chunks.0.sha256`."""
    for name, found in messages.items():
        if isinstance(found, dict):
            yield from _flat(found, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", found
