"""The use case: remember why a device's uploads are refused. One that is refused for ever is silent
from outside."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from time import monotonic
from uuid import UUID

import psycopg

from ingest_api.database import queries
from ingest_api.database.pool import Database
from ingest_api.display import printable
from ingest_api.errors import DatabaseUnavailable, IngestError
from ingest_api.models.fleet import Refusal

PAUSE = timedelta(seconds=10)
"""How long nothing more is written of a device after a refusal was."""

USE_SECONDS = 0.5
"""How long an answer may wait for that."""

DETAIL_LENGTH = 500

_log = logging.getLogger(__name__)


@dataclass
class _Unwritten:
    """Refusals of a device that were not written yet."""

    count: int = 0
    next_at: float = 0.0  # monotonic


class Refusals:
    """The refusals of uploads that this process has answered."""

    def __init__(self, database: Database, *, pause: timedelta = PAUSE) -> None:
        self._database = database
        self._pause = pause
        self._unwritten: dict[UUID, _Unwritten] = {}  # a registered device each
        self._lock = Lock()

    def record(self, device_id: UUID, error: IngestError) -> None:
        """Record that an upload of this device was refused, if that is for what it contains.

        Nothing is written shortly after the last one, and nothing is raised.
        """
        if not (error.is_final and (count := self._take(device_id))):
            return
        refusal = Refusal(error.code, printable(error.detail)[:DETAIL_LENGTH], count)
        written = False
        try:
            with self._database.connection(USE_SECONDS) as connection:
                written = queries.refusals.record_refusal(
                    connection, device_id, refusal, pause=self._pause
                )
        except (DatabaseUnavailable, psycopg.Error) as failure:
            _log.warning("a refusal could not be recorded: %s", failure)
        if not written:
            self._put_back(device_id, count)

    def _take(self, device_id: UUID) -> int:
        """Count a refusal; return how many are to be written now."""
        with self._lock:
            unwritten = self._unwritten.setdefault(device_id, _Unwritten())
            unwritten.count += 1
            if monotonic() < unwritten.next_at:
                return 0
            count, unwritten.count = unwritten.count, 0
            unwritten.next_at = monotonic() + self._pause.total_seconds()
            return count

    def _put_back(self, device_id: UUID, count: int) -> None:
        with self._lock:
            self._unwritten[device_id].count += count
