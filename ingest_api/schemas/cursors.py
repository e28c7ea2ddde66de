"""Cursors: where the next page of a list begins, as opaque text.

A cursor carries a digest of the selection that it belongs to. So one that was mistyped, changed, or
taken from another list is refused, and does not skip anything unnoticed. It is no secret.
"""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from ingest_api.schemas.fields import validation_failed

_DIGEST_BYTES = 9


def dump_cursor(position: Any, selection: Mapping[str, Any]) -> str | None:
    """Return the cursor of a position, a dataclass of plain values, in a selection."""
    if position is None:
        return None
    values = json.dumps([_plain(value) for value in vars(position).values()]).encode()
    return _text(_digest(values, selection) + values)


def load_cursor(kind: Any, cursor: str | None, selection: Mapping[str, Any]) -> Any:
    """Return the position, of the dataclass `kind`; None for no cursor. ValidationFailed."""
    if cursor is None:
        return None
    try:
        data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except ValueError:
        data = b""
    digest, values = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if digest != _digest(values, selection) or cursor != _text(data):
        raise validation_failed(
            {"cursor": ["Is not a cursor of this list with these parameters: begin without one."]}
        )
    types = kind.__annotations__.values()
    return kind(*map(_typed, types, json.loads(values)))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _digest(values: bytes, selection: Mapping[str, Any]) -> bytes:
    text = json.dumps({name: _plain(value) for name, value in selection.items()}, sort_keys=True)
    return hashlib.sha256(values + text.encode()).digest()[:_DIGEST_BYTES]


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID | timedelta) else value


def _typed(kind: Any, value: Any) -> Any:
    if kind is datetime:
        return datetime.fromisoformat(value)
    return UUID(value) if kind is UUID else value
