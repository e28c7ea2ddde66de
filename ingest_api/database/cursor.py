"""Running a statement, also in a session whose prepared statements are no longer valid."""

from typing import Any

import psycopg
from psycopg.abc import Params
from psycopg.pq import TransactionStatus
from psycopg.rows import Row

_STALE_STATES = {
    "0A000",  # cached plan must not change result type
    "08P01",  # the prepared statement has other parameters
    "26000",  # the prepared statement does not exist
    "42P05",  # the prepared statement exists already
}


class OwnCursor(psycopg.Cursor[Row]):
    """A cursor that runs a statement once more if the session was stale.

    An error ends the transaction, and a statement outside of one is a transaction: nothing of the
    first attempt remains. Inside of one nothing could be repeated, so nothing is prepared there.
    """

    def execute(  # type: ignore[no-untyped-def]  # Self, whose module differs by Python's version
        self,
        query: Any,  # its types differ by psycopg's version
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ):
        connection = self.connection
        alone = connection.pgconn.transaction_status == TransactionStatus.IDLE
        if not (alone and connection.autocommit):
            return super().execute(query, params, prepare=False, binary=binary)
        try:
            return super().execute(query, params, prepare=prepare, binary=binary)
        except psycopg.Error as error:
            if not is_stale(error) or connection.closed:
                raise
        connection.prepare_threshold = None
        return super().execute(query, params, prepare=False, binary=binary)


def is_stale(error: psycopg.Error) -> bool:
    """Return whether a session with new prepared statements and caches may not meet this error."""
    if error.sqlstate == "XX000":
        return "cache lookup failed" in (error.diag.message_primary or "")
    return error.sqlstate in _STALE_STATES


def has_been_stale(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the session must be replaced after this use."""
    return connection.prepare_threshold is None
