"""The devices of a benchmark, and when each of their chunks was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
from lab.recorder import Recorder

from ingest_api.tokens import generate_token, hash_token

CHUNK_SECONDS = 60
_HOUR = 60
_RECENT = timedelta(hours=24)
# The columns of every version, so that it fits another version's database as well.
_REGISTER = """
    INSERT INTO devices (device_id, point_id, register_id, token_hash)
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[])
"""


def register(database_url: str, count: int) -> list[Recorder]:
    """Register so many devices, each at a point of its own, in one statement."""
    found = [Recorder(uuid4(), uuid4(), uuid4(), generate_token()) for _ in range(count)]
    rows = [(who.device_id, who.point_id, who.register_id, hash_token(who.token)) for who in found]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_REGISTER, [list(column) for column in zip(*rows, strict=True)])
    return found


def first_start() -> int:
    """Return when upload 0 was recorded: a full hour, a day ago (Unix seconds).

    Nearly all uploads are recent, and the service remembers the folders of recent ones only.
    """
    return int((datetime.now(UTC) - _RECENT).replace(minute=0, second=0).timestamp())


def start_of(number: int, devices: int, first: int) -> int:
    """Return when upload `number` was recorded (Unix seconds); upload.lua has the same.

    All devices take turns, and each has a chunk a minute. They differ in the minute, so that at any
    time a sixtieth of the uploads is the first of its hour and needs a new folder, as in a real
    fleet. No two uploads have both the same device and the same start.
    """
    turn, device = divmod(number, devices)
    return first + CHUNK_SECONDS * (turn + device % _HOUR)


def count_chunks(database_url: str, devices: Sequence[Recorder]) -> int:
    """Return how many rows the chunks of these devices have."""
    count = "SELECT count(*) FROM audio_chunks WHERE device_id = ANY(%s)"
    with psycopg.connect(database_url, autocommit=True) as connection:
        [number] = connection.execute(count, [[who.device_id for who in devices]]).fetchone() or [0]
    return int(number)
