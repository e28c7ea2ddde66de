"""The database as the service reaches it: whether it answers, its settings and its schema."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg

from ingest_api.database import queries
from ingest_api.database.migrations import SchemaError, require_current
from ingest_api.database.pool import Connection, connect
from ingest_api.database.session import TransactionPooling
from ingest_api.doctor import server
from ingest_api.doctor.clock import judge_difference
from ingest_api.doctor.findings import Finding, fail, ok, one_line, warn
from ingest_api.doctor.settings import Reading

ANSWER_SECONDS = 5.0
"""For all statements together. No upload would wait that long."""

SNAPSHOT_AGE = timedelta(hours=1)
"""From this age on an open snapshot is told: a backup of a large database may take less."""


def check_database(reading: Reading) -> Iterator[Finding]:
    if reading.lacks("DATABASE_URL"):
        return
    try:
        with closing(connect(reading.settings, seconds=ANSWER_SECONDS)) as connection:
            yield from _check_answer(connection)
            yield from _granted("PostgreSQL", partial(_check_server, connection, reading))
            yield from _granted("database schema", partial(_check_schema, connection))
            yield from _granted("database grants", partial(_check_grants, connection))
            yield from _granted("database indexes", partial(_check_indexes, connection))
            yield from _granted("database snapshots", partial(_check_snapshots, connection))
    except TransactionPooling as error:
        yield fail("database", error.message, error.advice)
    except psycopg.OperationalError as error:
        cure = "start PostgreSQL, or correct DATABASE_URL; PostgreSQL's log may say more"
        yield fail("database", f"does not answer: {one_line(error)}", cure)


def _granted(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check, or that PostgreSQL refused it."""
    try:
        yield from check()
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        cure = "make the role in DATABASE_URL the tables' owner, or GRANT it the right"
        yield fail(name, f"cannot be checked: {one_line(error)}", cure)


def _check_answer(connection: Connection) -> Iterator[Finding]:
    before = datetime.now(UTC)
    theirs = queries.server.get_server_clock(connection)
    took = datetime.now(UTC) - before
    yield ok("database", f"answers within {took.total_seconds() * 1000:.1f} ms")
    # Their clock was read about half a round trip after ours.
    yield judge_difference(theirs - (before + took / 2))


def _check_server(connection: Connection, reading: Reading) -> Iterator[Finding]:
    settings = {
        setting.name: setting for setting in queries.server.list_server_settings(connection)
    }
    session = queries.server.get_session(connection)
    yield server.judge_version(connection.info.server_version)
    yield from server.judge_durability(settings, session)
    yield server.judge_triggers(settings, session)
    yield server.judge_writable(settings, session)
    yield server.judge_role(session)
    if not reading.lacks("WORKERS", "DATABASE_POOL_SIZE"):
        workers, pool_size = reading.settings.workers, reading.settings.database_pool_size
        yield server.judge_connections(settings, session, workers, pool_size)


def _check_schema(connection: Connection) -> Iterator[Finding]:
    try:
        require_current(connection)
    except SchemaError as error:
        yield fail("database schema", error.message, error.advice)
    else:
        yield ok("database schema", "matches this version")


def _check_grants(connection: Connection) -> Iterator[Finding]:
    wide = queries.server.list_wide_grants(connection)
    for grant in wide:
        message = f"{grant.role} may {grant.privilege} {grant.table_name}: more than workers need"
        revoke = f"REVOKE {grant.privilege} ON {grant.table_name} FROM {grant.role}"
        cure = f"{revoke}; then grant what deploy/README.md says under Workers"
        yield warn("database grants", message, cure)
    if not wide:
        yield ok("database grants", "give other roles no more than workers need")


def _check_indexes(connection: Connection) -> Iterator[Finding]:
    invalid = queries.server.list_invalid_indexes(connection)
    for index in invalid:
        message = f"{index} is invalid: it is kept up to date, but no query uses it"
        yield warn("database indexes", message, f"REINDEX INDEX CONCURRENTLY {index}")
    if not invalid:
        yield ok("database indexes", "are valid")


def _check_snapshots(connection: Connection) -> Iterator[Finding]:
    old = queries.server.list_old_snapshots(connection, age=SNAPSHOT_AGE)
    for holder in old:
        message = f"{holder}: its snapshot keeps dead rows, which slow down every claim"
        cure = "end it if it hangs: SELECT pg_terminate_backend(PID), or ROLLBACK PREPARED"
        yield warn("database snapshots", message, cure)
    if not old:
        yield ok("database snapshots", "none that this role can see is older than an hour")
