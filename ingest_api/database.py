"""Connections to PostgreSQL, each use bounded in time, and the text of the statements.

No SQL and no knowledge of tables here: see `queries.py` and `sql/`.
"""

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from ingest_api.errors import DatabaseUnavailable
from ingest_api.settings import Settings

USE_SECONDS = 4.0
"""How long a request may wait for a connection and its statements together."""

_CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 3,
    "application_name": "ingest_api",
}
# In another zone the first and the last day that Python knows cannot be read back.
_IN_UTC = "SET timezone = 'UTC'"

_T = TypeVar("_T")


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that waits for the server no longer than until `deadline` (monotonic).

    `statement_timeout` is not enough: a server that hangs does not keep its own time.
    """

    deadline: float | None = None

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        if self.deadline is not None:
            timeout = max(0.0, self.deadline - monotonic())
        return super().wait(gen, interval, timeout)


Connection: TypeAlias = psycopg.Connection[TupleRow]


@cache
def statement(name: str) -> bytes:
    """The text of `sql/queries/<name>.sql`."""
    return files("ingest_api.sql").joinpath("queries", f"{name}.sql").read_bytes()


def connect(settings: Settings) -> Connection:
    """One connection of its own, for commands and checks; psycopg.OperationalError if there is
    no server. In autocommit mode, like the pool's."""
    connection = psycopg.connect(settings.database_url, **_CONNECTION)
    connection.execute(_IN_UTC)
    return connection


class Database:
    """The pool of one worker process.

    In autocommit mode one statement is one transaction: an upload needs no BEGIN and no COMMIT.
    The pool opens at first use, so never before gunicorn's fork.
    """

    def __init__(
        self, settings: Settings, *, configure: Callable[[Connection], None] | None = None
    ) -> None:
        self._configure_more = configure
        self._pool = ConnectionPool(
            settings.database_url,
            connection_class=BoundedConnection,
            kwargs=_CONNECTION,
            min_size=1,
            max_size=settings.database_pool_size,
            timeout=USE_SECONDS,
            # Give up soon, so that the next request tries at once when the server is back,
            # instead of waiting for the end of an ever longer back-off.
            reconnect_timeout=USE_SECONDS,
            configure=self._configure,
            check=_require_open,
            open=False,
        )

    @contextmanager
    def connection(self, seconds: float = USE_SECONDS) -> Iterator[Connection]:
        """Lend a connection for at most `seconds`; DatabaseUnavailable when that cannot be."""
        deadline = monotonic() + seconds
        try:
            if self._pool.closed:
                self._pool.open()
            with self._pool.connection(timeout=seconds) as connection:
                connection.deadline = deadline
                with _closed_on_failure(connection):
                    yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as error:
            raise DatabaseUnavailable from error

    def close(self) -> None:
        """Close every connection; for a process that ends."""
        self._pool.close()

    def _configure(self, connection: BoundedConnection) -> None:
        connection.deadline = monotonic() + USE_SECONDS
        connection.execute(_IN_UTC)
        # The server gives up as well, so that no abandoned statement holds a lock for ever.
        connection.execute(f"SET statement_timeout = {int(USE_SECONDS * 1000)}")
        if self._configure_more:
            self._configure_more(connection)


@contextmanager
def _closed_on_failure(connection: Connection) -> Iterator[None]:
    """A connection whose statement was cut short is in no known state: the pool must not reuse
    it."""
    try:
        yield
    except psycopg.OperationalError:
        connection.close()
        raise


def _require_open(connection: Connection) -> None:
    """Find a connection that the server has closed, without a round trip.

    An idle connection has nothing to say: if its socket is readable, the server hung up (or is
    about to), and the pool's own check, which sends a statement, may find out what it said.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)
