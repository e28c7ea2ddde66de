"""Connections to PostgreSQL, each use bounded in time.

No SQL and no knowledge of tables here: see `queries/` and `sql/`.
"""

import select
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic
from typing import TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from ingest_api.database.cursor import has_been_stale, is_stale
from ingest_api.database.session import PARAMETERS, Connection, require_own_session, settle
from ingest_api.database.shares import Shares
from ingest_api.errors import DatabaseUnavailable
from ingest_api.settings import Settings

__all__ = ["BoundedConnection", "Connection", "Database", "connect"]

USE_SECONDS = 2.0
"""How long one use may wait, for a connection and its statements together. An upload uses the
database twice (shorter uses come with Redis and with a declared digest) and is answered within 5 s;
/health uses it once and has 3 s."""

NOTICED_SECONDS = 0.001
"""A shorter wait for a connection is none."""

# Refuse a session that cannot write (`default_transaction_read_only`, a standby) when it is opened:
# it would stay read-only after the server has become writable.
_WRITABLE = {"target_session_attrs": "read-write"}

# Errors that come from the state of the server, not from the statement.
_FAILURES = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)

_T = TypeVar("_T")


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that waits for the server until `deadline` (monotonic) at most.

    `statement_timeout` is not enough: a server that hangs does not keep its own time.
    """

    deadline: float | None = None

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        if self.deadline is not None:
            timeout = max(0.0, self.deadline - monotonic())
        return super().wait(gen, interval, timeout)


class _Pool(ConnectionPool[BoundedConnection]):
    """A pool that knows why it has no connection to lend."""

    refusal: Exception | None = None  # of the last attempt to connect that ended; None: it worked

    def _connect(self, timeout: float | None = None) -> BoundedConnection:
        try:
            connection = super()._connect(timeout)
        except Exception as error:
            self.refusal = error
            raise
        self.refusal = None
        return connection


def connect(settings: Settings, *, seconds: float | None = None) -> Connection:
    """Open one connection beside the pool, for commands and checks, in autocommit mode.

    psycopg.OperationalError when the server is unreachable, or when all statements together take
    longer than `seconds`. TransactionPooling.
    """
    connection = BoundedConnection.connect(settings.database_url, **PARAMETERS)
    try:
        connection.deadline = None if seconds is None else monotonic() + seconds
        require_own_session(connection, lambda: _open_another(settings))
        settle(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_another(settings: Settings) -> Connection:
    connection = BoundedConnection.connect(settings.database_url, **PARAMETERS)
    connection.deadline = monotonic() + USE_SECONDS
    return connection


class Database:
    """The pool of one server process.

    In autocommit mode one statement is one transaction: an upload needs no BEGIN and no COMMIT.
    The pool opens at first use, so never before gunicorn's fork.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        configure: Callable[[Connection], None] | None = None,
        on_wait: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._settings = settings
        self._configure_more = configure
        self._on_wait = on_wait
        self._shares = Shares(settings.database_pool_size)
        self._has_own_sessions = False  # known after the first connection
        self._pool = _Pool(
            settings.database_url,
            connection_class=BoundedConnection,
            kwargs=PARAMETERS | _WRITABLE,
            min_size=1,
            max_size=settings.database_pool_size,
            timeout=USE_SECONDS,
            # Stop soon, so that the next request tries at once when the server is back, instead of
            # waiting for the end of a growing back-off.
            reconnect_timeout=USE_SECONDS,
            configure=self._configure,
            check=self._require_open,
            open=False,
        )

    def connection(self, seconds: float = USE_SECONDS) -> AbstractContextManager[Connection]:
        """Lend a connection for at most `seconds`, for anything but an upload.
        DatabaseUnavailable."""
        deadline = monotonic() + seconds
        return self._lend(self._shares.of_others(deadline), deadline)

    def upload_connection(
        self, owner: Hashable, seconds: float = USE_SECONDS
    ) -> AbstractContextManager[Connection]:
        """Lend a connection for at most `seconds`, for a step of an upload: one at a time for each
        owner. DatabaseUnavailable."""
        deadline = monotonic() + seconds
        return self._lend(self._shares.of_owner(owner, deadline), deadline)

    @contextmanager
    def _lend(self, share: AbstractContextManager[None], deadline: float) -> Iterator[Connection]:
        asked = monotonic()
        try:
            with share:
                connection = self._take(deadline)
                if (waited := monotonic() - asked) > NOTICED_SECONDS:
                    self._on_wait(waited)
                try:
                    yield connection
                except psycopg.Error as error:
                    if _is_failure(error):
                        connection.close()
                    raise
                finally:
                    self._give_back(connection)
        except PoolTimeout as error:
            raise DatabaseUnavailable from self._pool.refusal or error
        except psycopg.Error as error:
            if _is_failure(error):
                raise DatabaseUnavailable from error
            raise

    def _take(self, deadline: float) -> BoundedConnection:
        """Take a connection from the pool. PoolTimeout."""
        if self._pool.closed:
            self._pool.open()
        connection = self._pool.getconn(max(0.0, deadline - monotonic()))
        connection.deadline = deadline
        return connection

    def _give_back(self, connection: BoundedConnection) -> None:
        """Return a connection to the pool, which replaces a closed one. The pool's own context
        manager would commit, though nothing is open in autocommit mode."""
        if has_been_stale(connection):
            connection.close()
        self._pool.putconn(connection)

    def close(self) -> None:
        """Close every connection, when the process ends."""
        self._pool.close()

    def _configure(self, connection: BoundedConnection) -> None:
        connection.deadline = monotonic() + USE_SECONDS
        if not self._has_own_sessions:
            require_own_session(connection, lambda: _open_another(self._settings))
            self._has_own_sessions = True
        # The server cancels too, so that no abandoned statement holds a lock for ever.
        settle(connection, statement_milliseconds=int(USE_SECONDS * 1000))
        if self._configure_more:
            self._configure_more(connection)

    def _require_open(self, connection: Connection) -> None:
        """Find a connection that the server has closed, without a round trip.

        An idle connection receives nothing: if its socket is readable, the server has closed it.
        The server may have restarted, so the other connections are dropped too: the pool would find
        them dead one by one, with growing pauses.
        """
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            connection.close()
            self._pool.drain()
            raise psycopg.OperationalError("The server has closed the connection")


def _is_failure(error: psycopg.Error) -> bool:
    """Return whether the connection must not be used again: a statement that was cut short leaves
    it in no known state, a read-only session may stay read-only, and a stale one stale."""
    return isinstance(error, _FAILURES) or is_stale(error)
