"""The schema and its history: which migrations exist, which were applied, and applying the rest.

The files are in `sql/migrations`; the command is in `commands/migrate.py`.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from time import sleep

import psycopg
from psycopg.sql import SQL

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import OperatorError
from ingest_api.models.server import AppliedMigration

OLDEST_POSTGRESQL = 15
LOCK_POLL_SECONDS = 0.2
LOCK_MILLISECONDS = 1000  # less than an upload has for the database
LOCK_PAUSE_SECONDS = 1.0
LOCK_TRIES = 30
NO_TRANSACTION = b"-- migrate: no transaction\n"

_log = logging.getLogger(__name__)


class SchemaError(OperatorError):
    """The database is not one that this version can work with."""


class SchemaBehind(SchemaError):
    """The database lacks migrations of this version."""


class RestoreUnfinished(SchemaError):
    """A restore into the database was interrupted; leases of before the loss may still match."""


class SchemaAhead(SchemaError):
    """A newer version has migrated the database."""


@dataclass(frozen=True)
class Migration:
    """A file of `sql/migrations`, named NNNN_<what_it_does>.sql."""

    version: int
    name: str
    text: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    @property
    def in_transaction(self) -> bool:
        return not self.text.startswith(NO_TRANSACTION)


@cache
def available() -> tuple[Migration, ...]:
    """Return every migration of this version, oldest first."""
    folder = files("ingest_api.sql").joinpath("migrations")
    found = [
        Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_bytes())
        for entry in folder.iterdir()
        if re.fullmatch(r"[0-9]{4}_\w+\.sql", entry.name)
    ]
    return tuple(sorted(found, key=lambda migration: migration.version))


def applied(connection: Connection) -> list[AppliedMigration]:
    """Return the migrations that this database has, oldest first. SchemaError for foreign ones."""
    _require_supported_server(connection)
    _require_restored(connection)
    if not queries.server.has_schema_migrations(connection):
        return []
    rows = queries.server.list_applied_migrations(connection)
    known = {migration.version: migration for migration in available()}
    for row in rows:
        if row.version in known:
            _require_unchanged(row, known[row.version])
    if unknown := [row for row in rows if row.version not in known]:
        raise SchemaAhead(
            f"The database schema is ahead: it has {unknown[0].name}, which this version does not "
            "know",
            "install the version that made it, or a newer one",
        )
    return rows


def pending(connection: Connection) -> list[Migration]:
    """Return the migrations that this database lacks, oldest first. SchemaError."""
    done = {row.version for row in applied(connection)}
    return [migration for migration in available() if migration.version not in done]


def apply(connection: Connection) -> Iterator[Migration]:
    """Apply the pending migrations, yielding each one when it is committed. SchemaError.

    Safe from several processes at once: all but the first wait for the lock, and then find nothing
    to do. `connection` must be in autocommit mode.
    """
    _require_supported_server(connection)
    _require_restored(connection)
    while not queries.server.try_lock_migrations(connection):
        # Do not wait in the server: a concurrent index build would wait for this session.
        sleep(LOCK_POLL_SECONDS)
    queries.server.create_schema_migrations(connection)
    for migration in pending(connection):
        _apply_patiently(connection, migration)
        yield migration


def require_current(connection: Connection, *, allow_newer: bool = False) -> None:
    """Raise SchemaError unless this version and the database agree, or the database is ahead and
    that is allowed."""
    try:
        waiting = pending(connection)
    except SchemaAhead as error:
        if not allow_newer:
            raise
        _require_complete(connection)
        _log.warning("%s; going on, because of ALLOW_NEWER_SCHEMA", error)
        return
    if waiting:
        raise _behind(waiting[0])


def refuse_old_schema(connection: Connection) -> None:
    """Raise SchemaBehind on a schema that is behind, for each new connection of a running service,
    and RestoreUnfinished.

    A schema that is ahead passes: an upgrade migrates first and restarts the service afterwards.
    """
    try:
        require_current(connection)
    except (SchemaBehind, RestoreUnfinished):
        raise
    except SchemaError as error:
        _log.warning("%s", error)


def _apply_patiently(connection: Connection, migration: Migration) -> None:
    """Apply one migration, waiting for a table's lock briefly and repeatedly: every upload queues
    behind such a wait. A concurrent index build blocks nobody, and may wait as long as it needs."""
    timeout = LOCK_MILLISECONDS if migration.in_transaction else 0
    queries.server.set_lock_timeout(connection, timeout)
    for left in reversed(range(LOCK_TRIES)):
        try:
            _apply_one(connection, migration)
            return
        except psycopg.errors.LockNotAvailable as error:
            if not left:
                holders = ", ".join(queries.server.list_lock_holders(connection))
                cure = f"wait for, or end, {holders}" if holders else "run it again"
                raise _failure(migration, error, cure) from error
            sleep(LOCK_PAUSE_SECONDS)
        except psycopg.Error as error:
            raise _failure(migration, error) from error


def _apply_one(connection: Connection, migration: Migration) -> None:
    if not migration.in_transaction:
        _drop_half_built(connection, migration)
    with connection.transaction() if migration.in_transaction else nullcontext():
        connection.execute(migration.text)
        queries.server.insert_applied_migration(
            connection, version=migration.version, name=migration.name, sha256=migration.sha256
        )


def _drop_half_built(connection: Connection, migration: Migration) -> None:
    """Drop the invalid index that a failed concurrent build left: IF NOT EXISTS would keep it."""
    for name in queries.server.list_invalid_indexes(connection):
        if name.encode() in migration.text:
            connection.execute(SQL("DROP INDEX CONCURRENTLY {}").format(SQL(name)))


def _failure(migration: Migration, error: psycopg.Error, cure: str = "") -> SchemaError:
    reason = error.diag.message_primary or "the connection was lost"
    state = "was rolled back" if migration.in_transaction else "may be half done"
    cure = cure or error.diag.message_hint or "remove the cause and run it again"
    return SchemaError(
        f"Migration {migration.name} failed and {state}: {reason}",
        f"nothing later was applied; {cure}",
    )


def _require_supported_server(connection: Connection) -> None:
    major = connection.info.server_version // 10000
    if major < OLDEST_POSTGRESQL:
        raise SchemaError(
            f"PostgreSQL {OLDEST_POSTGRESQL} or newer is needed; this is {major}",
            "upgrade PostgreSQL",
        )
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        raise SchemaError(
            "The database has no encoding (SQL_ASCII), so text would come back as bytes",
            "make it anew: createdb --template=template0 --encoding=UTF8",
        )


def _require_restored(connection: Connection) -> None:
    if queries.backups.get_unfinished_restore(connection):
        raise RestoreUnfinished(
            "A restore into this database was interrupted",
            "run the same flask ingest restore again; it goes on where it stopped",
        )


def _require_complete(connection: Connection) -> None:
    """Raise SchemaBehind when a schema that is ahead lacks one of our migrations nevertheless, as
    after two versions have taken turns."""
    done = {row.version for row in queries.server.list_applied_migrations(connection)}
    for migration in available():
        if migration.version not in done:
            raise _behind(migration)


def _behind(migration: Migration) -> SchemaBehind:
    return SchemaBehind(
        f"The database schema is behind: {migration.name} is not applied",
        "run: flask ingest migrate",
    )


def _require_unchanged(row: AppliedMigration, migration: Migration) -> None:
    if migration.sha256 != row.sha256:
        raise SchemaError(
            f"Migration {row.name} was edited after it was applied (on {row.applied_at:%Y-%m-%d})",
            "restore the file as it was; put changes into a new migration",
        )
