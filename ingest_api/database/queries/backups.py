"""What backup and restore ask."""

from collections.abc import Iterator

from psycopg.rows import class_row, scalar_row

from ingest_api.database.pool import Connection, statement
from ingest_api.models.backups import ListedFile


def export_snapshot(connection: Connection) -> str:
    """Its name, good until the transaction ends."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        snapshot: str = cursor.execute(statement("export_snapshot")).fetchall()[0]
        return snapshot


def stream_listed_files(connection: Connection) -> Iterator[ListedFile]:
    """One for each row, the paths as the rows spell them; only within a transaction."""
    with connection.cursor("listed_files", row_factory=class_row(ListedFile)) as cursor:
        cursor.itersize = 5000
        yield from cursor.execute(statement("stream_listed_files"))


def get_database_size(connection: Connection) -> int:
    with connection.cursor(row_factory=scalar_row) as cursor:
        size: int = cursor.execute(statement("get_database_size")).fetchall()[0]
        return size


def list_relations(connection: Connection) -> list[str]:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement("list_relations"), {}).fetchall()


def list_other_sessions(connection: Connection) -> list[str]:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement("list_other_sessions"), {}).fetchall()
