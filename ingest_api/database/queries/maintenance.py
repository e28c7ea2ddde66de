"""When maintenance was last complete."""

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows, run
from ingest_api.models.server import MaintenanceRun


def list_runs(connection: Connection) -> list[MaintenanceRun]:
    return rows(connection, MaintenanceRun, "maintenance/list_runs")


def record_run(connection: Connection, name: str) -> None:
    run(connection, "maintenance/record_run", name=name)
