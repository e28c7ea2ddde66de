"""Connections to PostgreSQL, each use bounded in time.

No SQL and no knowledge of tables here: see `queries/` and `sql/`.
"""

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from ingest_api.errors import DatabaseUnavailable
from ingest_api.settings import Settings

USE_SECONDS = 2.0
"""How long one use may wait for a connection and its statements together. An upload uses the
database twice, and with Redis a third time and shorter, and is answered within 5 s; /health uses it
once and has 3 s."""

_CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 3,
    "application_name": "ingest_api",
}
# A session that cannot write (`default_transaction_read_only`, a standby) is refused when it is
# opened: it would stay as it is when the server has long become writable.
_WRITABLE = {"target_session_attrs": "read-write"}
# In another zone the first and the last day that Python knows cannot be read back.
_IN_UTC = "SET timezone = 'UTC'"

# What the server's state explains, and not the statement.
_FAILURES = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)

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


class _Pool(ConnectionPool[BoundedConnection]):
    """A pool that can tell why it has no connection to lend."""

    refusal: Exception | None = None  # why the last attempt to connect that ended has failed

    def _connect(self, timeout: float | None = None) -> BoundedConnection:
        try:
            connection = super()._connect(timeout)
        except Exception as error:
            self.refusal = error
            raise
        self.refusal = None
        return connection


Connection: TypeAlias = psycopg.Connection[TupleRow]


def connect(settings: Settings, *, seconds: float | None = None) -> Connection:
    """One connection of its own, for commands and checks; psycopg.OperationalError if there is
    no server, or if its statements together take longer than `seconds`. In autocommit mode, like
    the pool's."""
    connection = BoundedConnection.connect(settings.database_url, **_CONNECTION)
    connection.deadline = None if seconds is None else monotonic() + seconds
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
        self._pool = _Pool(
            settings.database_url,
            connection_class=BoundedConnection,
            kwargs=_CONNECTION | _WRITABLE,
            min_size=1,
            max_size=settings.database_pool_size,
            timeout=USE_SECONDS,
            # Give up soon, so that the next request tries at once when the server is back,
            # instead of waiting for the end of an ever longer back-off.
            reconnect_timeout=USE_SECONDS,
            configure=self._configure,
            check=self._require_open,
            open=False,
        )

    @contextmanager
    def connection(self, seconds: float = USE_SECONDS) -> Iterator[Connection]:
        """Lend a connection for at most `seconds`; DatabaseUnavailable when that cannot be."""
        deadline = monotonic() + seconds
        try:
            if self._pool.closed:
                self._pool.open()
            with self._pool.connection(seconds) as connection:
                connection.deadline = deadline
                with _closed_on_failure(connection):
                    yield connection
        except PoolTimeout as error:
            raise DatabaseUnavailable from self._pool.refusal or error
        except _FAILURES as error:
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

    def _require_open(self, connection: Connection) -> None:
        """Find a connection that the server has closed, without a round trip.

        An idle connection has nothing to say: if its socket is readable, the server hung up. It
        has restarted perhaps, so the other connections go as well: the pool would find them dead
        one by one, with ever longer pauses.
        """
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            connection.close()
            self._pool.drain()
            raise psycopg.OperationalError("The server has closed the connection")


@contextmanager
def _closed_on_failure(connection: Connection) -> Iterator[None]:
    """A connection whose statement was cut short is in no known state, and one that can only read
    may stay so: the pool must not reuse it."""
    try:
        yield
    except _FAILURES:
        connection.close()
        raise
