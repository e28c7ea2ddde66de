"""The use case: figures of the ledger for whoever watches the service."""

from datetime import UTC, datetime, timedelta

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.fleet import Bounds
from ingest_api.models.monitoring import LedgerFigures
from ingest_api.usecases.fleet import count_states
from ingest_api.usecases.queue_state import WAITING, look

COVERED_UNTIL = timedelta(minutes=10)
"""How long ago the hour ends of which the coverage is told. Devices need some time to send."""

HOUR = timedelta(hours=1)


def get_figures(connection: Connection, bounds: Bounds, *, free_bytes: int | None) -> LedgerFigures:
    """Return the ledger's figures. No statement reads more with more chunks."""
    queue = look(connection, with_workers=False)
    end = datetime.now(UTC).replace(second=0, microsecond=0) - COVERED_UNTIL
    runs = {row.name: row.finished_at for row in queries.maintenance.list_runs(connection)}
    waits = [queue.seconds_since(queue.states[status].oldest_received) for status in WAITING]
    return LedgerFigures(
        devices={str(state): count for state, count in count_states(connection, bounds).items()},
        chunks={status: state.chunks for status, state in queue.states.items()},
        oldest_waiting=max((wait for wait in waits if wait is not None), default=0),
        expired_leases=queue.states[ChunkStatus.PROCESSING].expired_leases,
        coverage=queries.fleet.get_coverage(connection, start=end - HOUR, end=end),
        free_bytes=free_bytes,
        schema_version=queries.server.list_applied_migrations(connection)[-1].version,
        backup_age=queue.seconds_since(runs.get("backup")),
        fsck_age=queue.seconds_since(runs.get("fsck")),
    )
