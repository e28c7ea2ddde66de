"""Fills a table as years of uploads would have: by SQL, as fast as PostgreSQL takes it.

There are no files. What is measured on such a table does not belong here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from lab.postgres import LocalPostgres
from lab.recorder import Recorder
from lab.service import SiteError
from psycopg import sql

from bench_service.devices import register
from bench_service.machine import show
from ingest_api.database import migrations
from ingest_api.database.pool import Connection

QUEUED = 1000  # of the newest; the others are DONE
_BATCH = 100_000  # small enough to be sorted in memory
_SHOWN = 1_000_000

# The devices take turns, and each has a chunk a minute, as in a fleet. The ids ascend with the time
# like the service's, and differ from one call to the next by `seed`.
_INSERT = """
    INSERT INTO audio_chunks (
        chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
        sample_rate, channels, file_path, file_size_bytes, sha256, status, created_at, finished_at
    )
    SELECT chunk_id, device_id, point_id, register_id, start_ts, start_ts + interval '1 min', 60,
        'opus', 48000, 1,
        format('audio/%%s/%%s/%%s_%%s.ogg', point_id, register_id,
            to_char(start_ts, 'YYYY-MM-DD/HH24/"chunk"_YYYYMMDD_HH24MISS'), chunk_id),
        190554, sha256(number::text::bytea), status, start_ts + interval '61 s',
        CASE status WHEN 'DONE' THEN start_ts + interval '65 s' END
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS number
    JOIN unnest(%(devices)s::uuid[]) WITH ORDINALITY AS turn (device_id, place)
        ON place = number %% %(count)s + 1
    JOIN devices USING (device_id)
    CROSS JOIN LATERAL (
        SELECT %(end)s::timestamptz - (%(rows)s - number) * interval '1 min' / %(count)s
                AS start_ts,
            CASE WHEN number >= %(rows)s - %(queued)s THEN 'QUEUED' ELSE 'DONE' END AS status,
            md5(%(seed)s || number::text) AS random
    ) AS chunk
    CROSS JOIN LATERAL (
        SELECT (lpad(to_hex((1000 * extract(epoch FROM start_ts))::bigint), 12, '0')
            || '8' || substr(random, 1, 3) || 'a' || substr(random, 4, 15))::uuid AS chunk_id
    ) AS name
    ORDER BY number
"""
_SECONDARY_INDEXES = """
    SELECT indexname, indexdef
    FROM pg_indexes
    WHERE schemaname = 'public' AND tablename = 'audio_chunks' AND indexname NOT IN (
        SELECT conname FROM pg_constraint WHERE conrelid = 'audio_chunks'::regclass
    )
"""
# For this session only: foreign keys are not looked up one by one, and nothing waits for the disk.
_PREPARE = """
    SET session_replication_role = replica;
    SET synchronous_commit = off;
    SET maintenance_work_mem = '512MB';
    SET work_mem = '256MB';
    SET timezone = 'UTC'
"""
_SIZE = "SELECT pg_total_relation_size('audio_chunks'), count(*) FROM audio_chunks"


def run(folder: Path, *, rows: int, devices: int, database: str | None) -> dict[str, Any]:
    """Fill an empty database, by default a throw-away one."""
    with ExitStack() as stack:
        if database is None:
            database = stack.enter_context(LocalPostgres(folder)).url()
        connection = stack.enter_context(psycopg.connect(database, autocommit=True))
        list(migrations.apply(connection))
        if connection.execute("SELECT 1 FROM audio_chunks LIMIT 1").fetchone():
            raise SiteError("the database has chunks: name an empty one")
        fleet = register(database, devices)
        started = time.monotonic()
        fill(connection, fleet, rows, end=datetime.now(UTC))
        seconds = time.monotonic() - started
        size, found = connection.execute(_SIZE).fetchone() or (0, 0)
    return {
        "kept": found == rows,
        "rows": found,
        "devices": devices,
        "seconds": round(seconds, 1),
        "rows_per_second": round(found / seconds),
        "bytes_per_row": round(size / max(1, found)),
    }


def fill(
    connection: Connection,
    devices: Sequence[Recorder],
    rows: int,
    *,
    end: datetime,  # of the newest
    queued: int = QUEUED,
) -> None:
    """Add so many chunks of these devices, of which the newest are QUEUED and the others DONE."""
    connection.execute(_PREPARE)
    indexes = connection.execute(_SECONDARY_INDEXES).fetchall() if rows > _BATCH else []
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    ids = [device.device_id for device in devices]
    values = {"rows": rows, "devices": ids, "count": len(ids), "queued": queued, "end": end}
    values["seed"] = f"{time.monotonic_ns()} "
    for first in range(0, rows, _BATCH):
        last = min(first + _BATCH, rows)
        connection.execute(_INSERT, values | {"first": first, "last": last - 1})
        if last % _SHOWN == 0:
            show(f"fill: {last} of {rows} rows")
    for name, definition in indexes:
        show(f"fill: index {name}")
        connection.execute(definition)
    connection.execute("VACUUM (ANALYZE) audio_chunks")
    connection.execute("RESET ALL")


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    yield (
        "fill: {rows} rows of {devices} devices in {seconds} s, {rows_per_second} a second,"
        " {bytes_per_row} bytes a row with its indexes"
    ).format_map(found)
