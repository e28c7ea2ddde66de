"""How commands reach the service's components and show failures: a sentence on standard error and
an exit status."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from uuid import UUID

import click
import psycopg

from ingest_api.components import Components
from ingest_api.database import queries
from ingest_api.database.migrations import require_current
from ingest_api.database.pool import Connection, connect
from ingest_api.errors import IngestError, OperatorError
from ingest_api.settings import Fault, Settings, SettingsError
from ingest_api.usecases.fsck import require_disk


class CouldNotRun(click.ClickException):
    """A failure of a command whose exit status 1 means something else."""

    exit_code = 2


@contextmanager
def failures(failure: type[click.ClickException] = click.ClickException) -> Iterator[None]:
    """Turn every expected failure into a sentence and an exit status."""
    try:
        yield
    except OperatorError as error:
        raise failure(str(error)) from None
    except IngestError as error:
        cause = f" ({error.cause})" if error.cause != error.detail else ""
        raise failure(f"{error}{cause}") from None
    except psycopg.errors.UndefinedTable:
        raise failure("The schema is missing. Run: flask ingest migrate") from None
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction):
        raise failure("The database schema is behind. Run: flask ingest migrate") from None
    except psycopg.Error as error:
        reason = str(error).strip() or type(error).__name__
        raise failure(f"The database failed (DATABASE_URL): {reason}") from None
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise failure(f"the disk is full ({error})" if full else str(error)) from None
    except KeyboardInterrupt:
        raise failure("interrupted") from None


@contextmanager
def opened(
    failure: type[click.ClickException] = click.ClickException,
) -> Iterator[tuple[Components, Connection]]:
    """Build the components from the environment, and open a connection beside their pool."""
    with failures(failure):
        components = Components.build(Settings.from_environ())
        with connect(components.settings) as connection:
            yield components, connection


@contextmanager
def database() -> Iterator[Connection]:
    """Open a connection, for commands that need nothing else."""
    with opened() as (_, connection):
        yield connection


def require_schema(components: Components, connection: Connection) -> None:
    """Raise SchemaError unless this version supports the database's schema."""
    require_current(connection, allow_newer=components.settings.allow_newer_schema)


def require_utf8() -> None:
    """Raise SettingsError in a locale whose encoding cannot represent every file name."""
    if sys.getfilesystemencoding() != "utf-8":
        raise SettingsError(
            {"PYTHONUTF8": Fault("must be 1: this locale cannot represent every file name")}
        )


@contextmanager
def maintenance(
    components: Components, connection: Connection, *, exclusive: bool, force: bool = False
) -> Iterator[None]:
    """Require the storage to be mounted and, if `exclusive`, lock it, during maintenance.

    Raise TooMuchMissing, unless forced, if its disk seems not to be mounted, and StorageUnavailable
    if `exclusive` and another command is running.
    """
    require_utf8()
    if not force:
        require_disk(connection, components.storage)
    with components.storage.locked() if exclusive else nullcontext():
        yield


def require_known(connection: Connection, point_id: UUID | None, device_id: UUID | None) -> None:
    """Raise UsageError for an id that no device and no chunk has: a mistyped id must not look like
    success."""
    if device_id and not queries.devices.is_device_known(connection, device_id):
        raise click.UsageError(f"There is no device {device_id}")
    if point_id and not queries.devices.is_point_known(connection, point_id):
        raise click.UsageError(f"No device and no chunk is of the point {point_id}")
