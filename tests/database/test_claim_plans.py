"""A claim reads few rows, whatever the table holds and whatever its statistics say."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from ingest_api.database.statements import statement

MANY = 10_000
PAGES = 50  # of 8 KiB, of the table and its indexes together

FILL = """
    INSERT INTO audio_chunks (
        chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
        sample_rate, channels, file_path, file_size_bytes, status, lease_expires_at,
        processing_started_at
    )
    SELECT gen_random_uuid(), device_id, point_id, register_id, start_ts, start_ts + '1 min', 60,
        'opus', 48000, 1, 'audio/' || number, 1, %(status)s, now() + %(lease)s::interval, now()
    FROM devices, generate_series(1, %(rows)s) AS number,
        LATERAL (SELECT now() - interval '1 s' * number AS start_ts) AS chunk
"""


@pytest.fixture
def connection(new_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(new_database(), autocommit=True) as connection:
        connection.execute("ALTER TABLE audio_chunks SET (autovacuum_enabled = off)")
        connection.execute(
            "INSERT INTO devices (device_id, point_id, register_id, token_hash) "
            "VALUES (%s, %s, %s, 'x')",
            [uuid4(), uuid4(), uuid4()],
        )
        yield connection


def _fill(connection: psycopg.Connection[Any], status: str, lease: str | None, rows: int) -> None:
    connection.execute(FILL, {"status": status, "lease": lease, "rows": rows})


def _pages(connection: psycopg.Connection[Any], name: str, **values: Any) -> int:
    """Return how many pages a statement reads to find its rows. It is rolled back."""
    explain = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement(name)
    with connection.transaction(force_rollback=True):
        [[plan]] = connection.execute(explain, values).fetchall()
    search = plan[0]["Plan"]["Plans"][0]  # the rest changes what was found
    return search["Shared Hit Blocks"] + search["Shared Read Blocks"]


# What the table held when it was analyzed last: nothing told, or what is no longer so.
STATISTICS = {
    "fresh": ("PROCESSING", "1 hour"),
    "all expired": ("PROCESSING", "-1 hour"),
    "no lease": ("DONE", None),
    "all waiting": ("QUEUED", None),
}


@pytest.mark.parametrize("before", STATISTICS.values(), ids=STATISTICS)
def test_a_claim_reads_no_live_lease(
    connection: psycopg.Connection[Any], before: tuple[str, str | None]
) -> None:
    _fill(connection, *before, MANY)
    connection.execute("ANALYZE audio_chunks")
    connection.execute("TRUNCATE audio_chunks")
    _fill(connection, "PROCESSING", "1 hour", MANY)
    _fill(connection, "QUEUED", None, 50)
    assert _pages(connection, "leases/expire_leases", max_attempts=3) < PAGES
    _fill(connection, "PROCESSING", "-1 s", 3)
    assert _pages(connection, "leases/expire_leases", max_attempts=3) < PAGES
