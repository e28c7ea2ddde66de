"""Parameter types for click, and options that several commands share."""

import re
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import click
from marshmallow import ValidationError, fields

from ingest_api.commands.output import WATCH_SECONDS
from ingest_api.display import printable
from ingest_api.schemas.fields import Name, TimeZone, parse_uuid
from ingest_api.tokens import TOKEN_PATTERN, TOKEN_RULE

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


class FieldParameter(click.ParamType[str]):
    """A text as the API takes it."""

    def __init__(self, field: fields.String, name: str) -> None:
        self._field, self.name = field, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(self._field.deserialize(value))
        except ValidationError as error:
            self.fail(f"{printable(str(value)[:80])!r}: {' '.join(error.messages)}", param, ctx)


NAME = FieldParameter(Name(), "name")
TIME_ZONE = FieldParameter(TimeZone(), "zone")


class TextParameter(click.ParamType[str]):
    """A search text: printable and not empty."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value or not value.isprintable():
            self.fail("must be printable and not empty", param, ctx)
        return str(value)


class DurationParameter(click.ParamType[timedelta]):
    """A duration such as 90d, 12h, 30min or 45s."""

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
            self.fail(
                f"{value!r} is not a time with an offset from UTC, such as {example}", param, ctx
            )
        return instant


_SCOPE_OPTIONS = (
    click.option("--point", "point_id", type=UuidParameter(), help="Only chunks of this point."),
    click.option("--device", "device_id", type=UuidParameter(), help="Only chunks of this device."),
    click.option(
        "--from",
        "recorded_from",
        type=InstantParameter(),
        help="Only chunks recorded after this time, even partly.",
    ),
    click.option(
        "--to",
        "recorded_until",
        type=InstantParameter(),
        help="Only chunks recorded before this time, even partly.",
    ),
)


def scope_options(command: _Command) -> _Command:
    """Add the options for the point, the device and the time of recording; see `Scope`."""
    for option in reversed(_SCOPE_OPTIONS):
        command = option(command)
    return command


def watch_options(command: _Command) -> _Command:
    """Add the options --watch and --every; see `require_watch`."""
    every = click.option(
        "--every",
        type=click.IntRange(1, 3600),
        metavar="SECONDS",
        help=f"Interval of --watch.  [default: {WATCH_SECONDS}]",
    )
    return click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")(every(command))


def require_watch(watch: bool, every: int | None) -> None:
    """Raise UsageError for an interval of nothing."""
    if every is not None and not watch:
        raise click.UsageError("--every requires --watch")


def require_order(recorded_from: datetime | None, recorded_until: datetime | None) -> None:
    if recorded_from and recorded_until and recorded_from >= recorded_until:
        raise click.UsageError("--from must be before --to")
