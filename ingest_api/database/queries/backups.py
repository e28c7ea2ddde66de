"""What backup and restore ask."""

from collections.abc import Iterator

from psycopg.rows import class_row
from psycopg.sql import SQL

from ingest_api.database.pool import Connection
from ingest_api.database.statements import rows, run, scalar, scalars, statement
from ingest_api.models.backups import Relation
from ingest_api.models.chunks import ChunkFile, ChunkStatus
from ingest_api.models.devices import Device


def export_snapshot(connection: Connection) -> str:
    """Return the snapshot's name, which is good until the transaction ends."""
    return scalars(connection, str, "backups/export_snapshot")[0]


def stream_chunk_files(connection: Connection) -> Iterator[ChunkFile]:
    """Yield one for each row; only within a transaction.

    The cursor is the server's, so that memory does not grow with the number of rows.
    """
    with connection.cursor("chunk_files", row_factory=class_row(ChunkFile)) as cursor:
        cursor.itersize = 5000
        yield from cursor.execute(statement("backups/stream_chunk_files"))


def get_database_size(connection: Connection) -> int:
    """Return it in bytes."""
    return scalars(connection, int, "backups/get_database_size")[0]


def list_relations(connection: Connection) -> list[str]:
    return scalars(connection, str, "backups/list_relations")


def list_other_sessions(connection: Connection) -> list[str]:
    return scalars(connection, str, "backups/list_other_sessions")


def get_unfinished_restore(connection: Connection) -> str | None:
    """Return the SHA-256 of its dump, in hex; None when no restore is unfinished."""
    return scalar(connection, str, "backups/get_unfinished_restore")


def begin_restore(connection: Connection, *, dump_sha256: str) -> None:
    """Mark the database as half restored, from a dump whose SHA-256 is given in hex."""
    with connection.transaction():
        run(connection, "backups/begin_restore")
        connection.execute(SQL("COMMENT ON TABLE restore_unfinished IS {}").format(dump_sha256))


def end_restore(connection: Connection) -> None:
    run(connection, "backups/end_restore")


def list_unreadable(connection: Connection) -> list[Relation]:
    return rows(connection, Relation, "backups/list_unreadable")


def rewind_chunks(connection: Connection, *, waiting_status: ChunkStatus, step: int) -> None:
    """Do so while the triggers of the table are disabled: they keep attempts as they are."""
    values = {"waiting_status": waiting_status, "step": step}
    run(connection, "backups/rewind_chunks", **values)


def raise_pruned_attempts(connection: Connection, *, step: int) -> None:
    run(connection, "backups/raise_pruned_attempts", step=step)


def disable_chunk_triggers(connection: Connection) -> None:
    """Let attempts and status be set freely, as the owner of the table may."""
    run(connection, "backups/disable_chunk_triggers")


def enable_chunk_triggers(connection: Connection) -> None:
    run(connection, "backups/enable_chunk_triggers")


def list_restored_devices(connection: Connection) -> list[Device]:
    """Return all devices, newest first, whatever version made the schema."""
    return rows(connection, Device, "backups/list_restored_devices")
