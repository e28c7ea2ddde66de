"""What the commands share: how they reach the database, their parameters, and `--json`."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import click
import psycopg

from ingest_api.database import queries
from ingest_api.database.migrations import SchemaError, require_current
from ingest_api.database.pool import Connection, connect
from ingest_api.errors import IngestError
from ingest_api.schemas.fields import parse_uuid
from ingest_api.settings import Settings, SettingsError
from ingest_api.storage.disk.upkeep import StoredFiles
from ingest_api.tokens import TOKEN_PATTERN, TOKEN_RULE
from ingest_api.usecases.fsck import TooMuchMissing, require_disk
from ingest_api.usecases.retention import Refused

STATUSES = ("UPLOADED", "QUEUED", "PROCESSING", "DONE", "ERROR")

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_Command = TypeVar("_Command", bound=Callable[..., Any])


class UuidParameter(click.ParamType[UUID]):
    """A UUID in any legal spelling."""

    name = "uuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        try:
            return value if isinstance(value, UUID) else parse_uuid(value)
        except ValueError:
            self.fail(f"{value!r} is not a UUID", param, ctx)


class TokenParameter(click.ParamType[str]):
    """A bearer token; `-` reads it from standard input, where no other user can see it."""

    name = "token"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        token = sys.stdin.readline().strip() if value == "-" else str(value)
        if not TOKEN_PATTERN.fullmatch(token):
            self.fail(f"a token {TOKEN_RULE}", param, ctx)
        return token


class TextParameter(click.ParamType[str]):
    """Text to look for: not empty, and of characters that can be in it."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value or not value.isprintable():
            self.fail("must be printable, and not empty", param, ctx)
        return str(value)


class DurationParameter(click.ParamType[timedelta]):
    """A length of time such as 90d, 12h, 30min or 45s."""

    name = "duration"
    _units: ClassVar = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,5})(s|min|h|d)", value)
        if not match:
            self.fail(f"{value!r} is not a duration such as 90d, 12h, 30min or 45s", param, ctx)
        return timedelta(**{self._units[match[2]]: int(match[1])})


class InstantParameter(click.ParamType[datetime]):
    """A date and time with an offset from UTC."""

    name = "instant"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            example = "2026-01-28T10:00:00Z or 2026-01-28T10:00:00+01:00"
            self.fail(f"{value!r} is not a time with its offset, such as {example}", param, ctx)
        return instant


_SCOPE_OPTIONS = (
    click.option("--point", "point_id", type=UuidParameter(), help="Only of this shop."),
    click.option("--device", "device_id", type=UuidParameter(), help="Only of this recorder."),
    click.option(
        "--from",
        "recorded_from",
        type=InstantParameter(),
        help="Only what was recorded after, be it in part.",
    ),
    click.option(
        "--to",
        "recorded_until",
        type=InstantParameter(),
        help="Only what was recorded before, be it in part.",
    ),
)


def scope_options(command: _Command) -> _Command:
    """The options that say of which shop, recorder and time chunks are to be; see `Scope`."""
    for option in reversed(_SCOPE_OPTIONS):
        command = option(command)
    return command


def require_order(recorded_from: datetime | None, recorded_until: datetime | None) -> None:
    if recorded_from and recorded_until and recorded_from >= recorded_until:
        raise click.UsageError("--from must be before --to")


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


@contextmanager
def progress_bar(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """A function that takes the number of steps done; it draws a bar when a person is watching."""
    if not sys.stderr.isatty():
        yield lambda _steps: None
        return
    with click.progressbar(length=max(length, 1), label=label, file=sys.stderr) as bar:
        yield bar.update


def printable(text: str) -> str:
    """A file name as text that a terminal can take, whatever bytes it has on disk."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def age(seconds: float) -> str:
    """A length of time for people, in the largest unit that it fills."""
    whole = max(0, int(seconds))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"
