"""The devices that upload, and when each of their chunks was recorded.

What is uploaded, and how, does not belong here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from lab.recorder import Recorder
from lab.service import Site

from ingest_api.tokens import generate_token, hash_token

CHUNK_SECONDS = 60
_HOUR = 60
_RECENT = timedelta(hours=24)
_REGISTER = """
    INSERT INTO devices (device_id, point_id, register_id, token_hash)
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[])
"""


def site_recorders(site: Site, count: int) -> list[Recorder]:
    """Register so many devices, in one statement."""
    recorders = [Recorder(uuid4(), uuid4(), uuid4(), generate_token()) for _ in range(count)]
    columns = zip(
        *(
            (who.device_id, who.point_id, who.register_id, hash_token(who.token))
            for who in recorders
        ),
        strict=True,
    )
    with site.connect() as connection:
        connection.execute(_REGISTER, [list(column) for column in columns])
    return recorders


def first_start() -> int:
    """When the recording of upload 0 began: a full hour, a day ago (Unix seconds). So the uploads
    are recent, as nearly all are: the service remembers the folders of recent ones only."""
    return int((datetime.now(UTC) - _RECENT).replace(minute=0, second=0).timestamp())


def start_of(number: int, devices: int, first: int) -> int:
    """When the recording of upload `number` began (Unix seconds; load.lua has the same).

    All devices take turns, and each has a chunk a minute. They differ in the minute, so that at any
    time a sixtieth of the uploads is the first of its hour and needs a new folder, as with a real
    fleet. No two uploads have both the same device and the same start.
    """
    turn, device = divmod(number, devices)
    return first + CHUNK_SECONDS * (turn + device % _HOUR)
