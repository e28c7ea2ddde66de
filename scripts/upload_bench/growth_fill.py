"""Fills a site's table as years of uploads would have: by SQL, as fast as PostgreSQL takes it.

What is measured on such a table does not belong here.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from lab.service import Site, SiteError
from psycopg import sql

from ingest_api.database.pool import Connection

QUEUED = 1000  # of the newest; the others are DONE
BATCH = 100_000  # small enough to be sorted in memory
SHOWN = 1_000_000
ROW_BYTES = 800  # with its indexes, and with what is written beside: measured
SPARE_BYTES = 10 * 2**30  # for PostgreSQL's log, and for the recordings of a round

# The devices take turns, and each has a chunk a minute: as with a fleet, whose ids ascend with the
# time in the same way (see chunk_id_for) and whose newest is just before `end`.
INSERT = """
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
    JOIN (
        SELECT device_id, point_id, register_id, row_number() OVER (ORDER BY device_id) - 1 AS place
        FROM devices
    ) AS device ON place = number %% %(devices)s
    CROSS JOIN LATERAL (
        SELECT %(end)s::timestamptz - (%(rows)s - number) * interval '1 min' / %(devices)s
                AS start_ts,
            CASE WHEN number >= %(rows)s - %(queued)s THEN 'QUEUED' ELSE 'DONE' END AS status,
            md5(number::text) AS random
    ) AS chunk
    CROSS JOIN LATERAL (
        SELECT (lpad(to_hex((1000 * extract(epoch FROM start_ts))::bigint), 12, '0')
            || '8' || substr(random, 1, 3) || 'a' || substr(random, 4, 15))::uuid AS chunk_id
    ) AS name
    ORDER BY number
"""
SECONDARY_INDEXES = """
    SELECT indexname, indexdef
    FROM pg_indexes
    WHERE schemaname = 'public' AND tablename = 'audio_chunks' AND indexname NOT IN (
        SELECT conname FROM pg_constraint WHERE conrelid = 'audio_chunks'::regclass
    )
"""
# For this session only: foreign keys are not looked up one by one, and nothing waits for the disk.
PREPARE = """
    SET session_replication_role = replica;
    SET synchronous_commit = off;
    SET maintenance_work_mem = '512MB';
    SET work_mem = '256MB';
    SET timezone = 'UTC'
"""


def require_room(folder: Path, rows: int) -> None:
    """SiteError when so many, of all sites together, do not fit."""
    need, free = rows * ROW_BYTES + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < need:
        raise SiteError(
            f"{rows} rows take {need / 2**30:.0f} GiB with what goes on meanwhile, but {folder} has"
            f" {free / 2**30:.0f} GiB free: use --folder, or fewer --rows"
        )


def fill(site: Site, rows: int, end: datetime, show: Callable[[str], None]) -> float:
    """So many rows of the site's devices, the last before `end`; how many seconds it took."""
    started = time.monotonic()
    with site.connect() as connection:
        if rows:
            connection.execute(PREPARE)
            indexes = connection.execute(SECONDARY_INDEXES).fetchall()
            for name, _ in indexes:
                connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
            _insert(connection, rows, end, show)
            for name, definition in indexes:
                show(f"{rows} rows: the index {name} is built")
                connection.execute(definition)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
    return time.monotonic() - started


def _insert(connection: Connection, rows: int, end: datetime, show: Callable[[str], None]) -> None:
    row = connection.execute("SELECT count(*) FROM devices").fetchone()
    values = {"rows": rows, "devices": row and row[0], "queued": QUEUED, "end": end}
    for first in range(0, rows, BATCH):
        last = min(first + BATCH, rows)
        connection.execute(INSERT, values | {"first": first, "last": last - 1})
        if last % SHOWN == 0:
            show(f"{rows} rows: {last} are there")
