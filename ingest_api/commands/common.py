"""What the commands share: how they reach the database, their parameters, and `--json`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import click
import psycopg

from ingest_api.database import Connection, connect
from ingest_api.errors import IngestError
from ingest_api.migrations import SchemaError
from ingest_api.schemas import parse_uuid
from ingest_api.settings import Settings, SettingsError
from ingest_api.tokens import TOKEN_PATTERN, TOKEN_RULE

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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


@contextmanager
def database() -> Iterator[Connection]:
    """A connection, with every expected failure turned into a sentence and exit status 1."""
    try:
        with connect(Settings.from_environ()) as connection:
            yield connection
    except SettingsError as error:
        raise click.ClickException(f"these settings must be changed:\n{error}") from None
    except (SchemaError, IngestError) as error:
        raise click.ClickException(str(error)) from None
    except psycopg.errors.UndefinedTable:
        raise click.ClickException("the schema is missing; run: flask ingest migrate") from None
    except psycopg.Error as error:
        reason = str(error).strip() or type(error).__name__
        raise click.ClickException(f"the database failed (DATABASE_URL): {reason}") from None
