"""What the commands share: how they reach the database, their parameters, and `--json`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from uuid import UUID

import click
import psycopg

from ingest_api.database import queries
from ingest_api.database.migrations import SchemaError, require_current
from ingest_api.database.pool import Connection, connect
from ingest_api.errors import IngestError
from ingest_api.settings import Settings, SettingsError
from ingest_api.storage.disk.upkeep import StoredFiles
from ingest_api.usecases.fsck import TooMuchMissing, require_disk
from ingest_api.usecases.retention import Refused


def require_known(connection: Connection, point_id: UUID | None, device_id: UUID | None) -> None:
    """A mistyped id must not look like work that is done."""
    devices = queries.devices.list_devices(connection)
    if device_id and all(device.device_id != device_id for device in devices):
        raise click.UsageError(f"there is no device {device_id}")
    if point_id and all(device.point_id != point_id for device in devices):
        raise click.UsageError(f"no device is at the point {point_id}")


class CouldNotRun(click.ClickException):
    """For commands whose exit status 1 means something else."""

    exit_code = 2


@contextmanager
def database(failure: type[click.ClickException] = click.ClickException) -> Iterator[Connection]:
    """A connection, with every expected failure turned into a sentence and an exit status."""
    try:
        with connect(Settings.from_environ()) as connection:
            yield connection
    except SettingsError as error:
        raise failure(f"these settings must be changed:\n{error}") from None
    except (SchemaError, TooMuchMissing, Refused) as error:
        raise failure(str(error)) from None
    except IngestError as error:
        cause = f" ({error.cause})" if error.cause != error.detail else ""
        raise failure(f"{error}{cause}") from None
    except psycopg.errors.UndefinedTable:
        raise failure("the schema is missing; run: flask ingest migrate") from None
    except psycopg.Error as error:
        reason = str(error).strip() or type(error).__name__
        raise failure(f"the database failed (DATABASE_URL): {reason}") from None
    except BrokenPipeError:  # whoever reads the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(failure.exit_code) from None
    except OSError as error:
        raise failure(str(error)) from None
    except KeyboardInterrupt:
        raise failure("interrupted") from None


def require_schema(connection: Connection) -> None:
    """SchemaError unless this version can work with the database's schema."""
    require_current(connection, allow_newer=Settings.from_environ().allow_newer_schema)


@contextmanager
def stored_files(
    connection: Connection, *, exclusive: bool, force: bool = False
) -> Iterator[StoredFiles]:
    """The files of this database's chunks. TooMuchMissing, unless forced, when they seem to be on
    a disk that is not there; StorageUnavailable when it is to be `exclusive` and is not."""
    if sys.getfilesystemencoding() != "utf-8":
        raise SettingsError("PYTHONUTF8: must be 1 in this locale, which cannot tell file names")
    files = StoredFiles(Settings.from_environ().audio_storage_dir)
    if not force:
        require_disk(connection, files)
    with files.locked() if exclusive else nullcontext():
        yield files
