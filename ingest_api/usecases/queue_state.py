"""The queue at one moment: what `flask ingest queue` shows. Knows nothing of terminals."""

from dataclasses import dataclass
from datetime import datetime

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.queue import QueueState, QueueWorker

COUNTABLE = 100_000
"""How many finished chunks of each status are counted. There may be many more, and they must not
slow down reading the queue."""

WAITING = (ChunkStatus.UPLOADED, ChunkStatus.QUEUED)


@dataclass(frozen=True)
class QueueSnapshot:
    """The queue at one moment."""

    at: datetime
    states: dict[str, QueueState]
    workers: list[QueueWorker]

    @property
    def waiting(self) -> int:
        return sum(self.states[status].chunks for status in WAITING)

    @property
    def last_hour(self) -> dict[str, int]:
        return {
            "received": sum(state.received for state in self.states.values()),
            "done": sum(worker.done for worker in self.workers),
            "error": sum(worker.error for worker in self.workers),
        }

    @property
    def growth(self) -> int:
        """Return by how many chunks an hour the queue grows."""
        hour = self.last_hour
        return hour["received"] - hour["done"] - hour["error"]

    @property
    def empty_in_seconds(self) -> float | None:
        """Return after how many seconds the queue is empty; None if it does not shrink."""
        return self.waiting / -self.growth * 3600 if self.growth < 0 else None

    def seconds_since(self, instant: datetime | None) -> float | None:
        return None if instant is None else max(0.0, (self.at - instant).total_seconds())


def look(connection: Connection, *, with_workers: bool = True) -> QueueSnapshot:
    """Return the queue as it is now. What each worker has done in the last hour takes longest."""
    with connection.transaction():
        states = queries.queue.list_queue_states(connection, countable=COUNTABLE)
        workers = queries.queue.list_queue_workers(connection) if with_workers else []
        at = queries.server.get_server_clock(connection)
    return QueueSnapshot(at, {state.status: state for state in states}, workers)
