"""The statements of `sql/queries/`: their texts, and running them by name.

Values are passed by name, as `%(name)s`; so a per cent sign in a text is always written `%%`.
What a statement returns becomes the caller's nouns. The callers are the functions in `queries/`.
"""

from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from psycopg.rows import class_row, scalar_row

from ingest_api.database.pool import Connection

_T = TypeVar("_T")


@cache
def statement(name: str) -> bytes:
    """Return the text of `sql/queries/<name>.sql`."""
    return files("ingest_api.sql").joinpath("queries", f"{name}.sql").read_bytes()


@cache
def _text(name: str, *, backwards: bool) -> bytes:
    """Return the text of a statement that lists; `backwards` in the other direction than it says:
    with DESC for ASC, and comparing its ids with the last one listed accordingly."""
    text = statement(name)
    if not backwards:
        return text
    return text.replace(b" ASC", b" DESC").replace(b"chunk_id) > (", b"chunk_id) < (")


def rows(connection: Connection, model: type[_T], name: str, /, **values: Any) -> list[_T]:
    """Run a statement and return its rows, each as a `model` whose fields are its columns."""
    with connection.cursor(row_factory=class_row(model)) as cursor:
        return cursor.execute(statement(name), values).fetchall()


def rows_unprepared(
    connection: Connection, model: type[_T], name: str, /, **values: Any
) -> list[_T]:
    """Return the same as `rows`, from a plan made for these very values.

    psycopg prepares a statement on the server once it has been sent a few times, and PostgreSQL may
    then plan it for any values. A partial index whose condition depends on a value cannot be used
    in such a plan.
    """
    with connection.cursor(row_factory=class_row(model)) as cursor:
        return cursor.execute(statement(name), values, prepare=False).fetchall()


def row(connection: Connection, model: type[_T], name: str, /, **values: Any) -> _T | None:
    """Run a statement and return its first row as a `model`, or None if it has none."""
    with connection.cursor(row_factory=class_row(model)) as cursor:
        return cursor.execute(statement(name), values).fetchone()


def scalars(connection: Connection, kind: type[_T], name: str, /, **values: Any) -> list[_T]:  # noqa: ARG001  `kind` is for the reader and the type checker
    """Run a statement of one column and return that column, whose type is `kind`."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement(name), values).fetchall()


def scalars_unprepared(
    connection: Connection,
    kind: type[_T],  # noqa: ARG001
    name: str,
    /,
    *,
    backwards: bool,
    **values: Any,
) -> list[_T]:
    """Return the same as `scalars`, from a plan made for these very values; see
    `rows_unprepared`."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        text = _text(name, backwards=backwards)
        return cursor.execute(text, values, prepare=False).fetchall()


def tuples(
    connection: Connection, name: str, /, *, backwards: bool, **values: Any
) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows as they are."""
    return connection.execute(_text(name, backwards=backwards), values).fetchall()


def scalar(connection: Connection, kind: type[_T], name: str, /, **values: Any) -> _T | None:  # noqa: ARG001
    """Run a statement of one column and return its first value; None if that is NULL or there is
    no row."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        found: _T | None = cursor.execute(statement(name), values).fetchone()
        return found


def run(connection: Connection, name: str, /, **values: Any) -> int:
    """Run a statement and return how many rows it changed."""
    return connection.execute(statement(name), values).rowcount
