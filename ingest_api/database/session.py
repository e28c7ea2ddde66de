"""What the service needs of a session with PostgreSQL, whatever the server, the database, the role
or a PG* variable says. `search_path` alone is left to the operator: it chooses the schema."""

from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeAlias

import psycopg
from psycopg.rows import TupleRow

from ingest_api.database.cursor import OwnCursor
from ingest_api.errors import OperatorError

Connection: TypeAlias = psycopg.Connection[TupleRow]

PARAMETERS: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 3,
    "application_name": "ingest_api",
    "client_encoding": "UTF8",
    "cursor_factory": OwnCursor,
}
"""What every connection is opened with. The rest is set afterwards: PgBouncer refuses `options`."""

_FIXED = {
    # How values are written and read. In another zone than UTC the first and the last day of
    # Python's calendar cannot be read back.
    "timezone": "'UTC'",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "client_encoding": "'UTF8'",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    # What a statement sees, and how long it may take. The pool sets its own statement_timeout.
    "default_transaction_isolation": "'read committed'",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    "plan_cache_mode": "auto",
    "exit_on_error": "off",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_FIXED_SINCE_17 = {"transaction_timeout": "0"}
# A 200 waits for the server's disk and for its synchronous standby. `remote_apply` waits longer.
_SYNCHRONOUS = """SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"""

_PID = "SELECT pg_backend_pid()"
_ROUNDS = 4


class TransactionPooling(OperatorError):
    """A pooler gives each transaction another session."""

    def __init__(self) -> None:
        super().__init__(
            "DATABASE_URL leads to a pooler that gives each transaction another session (such as "
            "PgBouncer with pool_mode = transaction or statement); prepared statements, settings "
            "and locks would reach the wrong one",
            "set pool_mode = session for this database, or set DATABASE_URL to PostgreSQL itself",
        )


def settle(connection: Connection, *, statement_milliseconds: int = 0) -> None:
    """Make the session the service's own, in one round trip. 0: a statement may take for ever."""
    settings = _FIXED | {"statement_timeout": str(statement_milliseconds)}
    if connection.info.server_version >= 170000:
        settings |= _FIXED_SINCE_17
    lines = [f"SET {name} = {value}" for name, value in settings.items()]
    connection.execute("; ".join([*lines, _SYNCHRONOUS]).encode())


def require_own_session(connection: Connection, another: Callable[[], Connection]) -> None:
    """Raise TransactionPooling if the server's session changes between two transactions.

    Behind a pooler the session's process is not the one that the connection was told of. If
    sessions are shared, an idle one is lent to the next client, so `another` connection meets it.
    """
    first = _backend_pid(connection)
    if first == connection.info.backend_pid:
        return
    try:
        with closing(another()) as other:
            for _ in range(_ROUNDS):
                if _backend_pid(other) == first or _backend_pid(connection) != first:
                    raise TransactionPooling
    except psycopg.OperationalError:
        # A pooler with sessions of our own has no second one to lend.
        return


def _backend_pid(connection: Connection) -> int:
    row = connection.execute(_PID, prepare=False).fetchone()
    return int(row[0]) if row else 0
