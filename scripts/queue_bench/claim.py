"""What a claim costs on a large table: few chunks wait, of many devices; then many, most of them of
one device, as when that was offline for days. Whether the right ones are given is for the tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from bench_tools.client import ApiClient
from bench_tools.machine import milliseconds
from lab.service import Site, SiteError

from ingest_api.database.pool import Connection, Database
from ingest_api.database.statements import statement
from ingest_api.models.chunks import FIRST_ID
from ingest_api.models.queue import Claim
from ingest_api.settings import Settings
from ingest_api.tokens import generate_token
from ingest_api.usecases.leases import CROWD, Leases

DEVICES = 100
WAITING = 1000
BATCH = 10
LEASE_SECONDS = 300
CLAIM = Claim("benchmark", BATCH, timedelta(seconds=LEASE_SECONDS), None)
# As a claim is planned for by ingest_api.database.queries.leases.claim_chunks, the first time.
VALUES = vars(CLAIM) | {
    "in_turn": BATCH // 2,
    "after_point": FIRST_ID,
    "after_device": FIRST_ID,
    "crowd": CROWD,
}

# The ids ascend with the time, as those of the service do; each device has a chunk a minute.
INSERT = """
    INSERT INTO audio_chunks (
        chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
        sample_rate, channels, file_path, file_size_bytes, sha256, status, finished_at
    )
    SELECT (lpad(to_hex(number), 8, '0') || '-0000-8000-8000-000000000000')::uuid,
        device_id, point_id, register_id, start_ts, start_ts + interval '1 min', 60, 'opus',
        48000, 1, 'audio/benchmark/' || number, 190554, sha256(number::text::bytea), status,
        CASE status WHEN 'DONE' THEN start_ts + interval '5 min' END
    FROM generate_series(%(first)s::bigint, %(last)s) AS number
    CROSS JOIN LATERAL (
        SELECT CASE WHEN number %% %(every)s = 0 THEN 'QUEUED' ELSE 'DONE' END AS status,
            timestamptz '2026-01-01T00:00:00Z' + number * interval '0.6 s' AS start_ts
    ) AS chunk
    JOIN (
        SELECT *, row_number() OVER (ORDER BY device_id) - 1 AS place FROM devices
    ) AS device ON place = CASE status WHEN 'QUEUED' THEN number / %(every)s ELSE number END
        %% %(devices)s
"""
# Nobody waits for the lease to end, as a worker's done does not.
FINISH = """
    UPDATE audio_chunks SET status = 'DONE', lease_expires_at = NULL
    WHERE chunk_id = ANY(%s::uuid[])
"""


@dataclass(frozen=True)
class Plan:
    """How large, and how often."""

    rows: int = 1_000_000
    claims: int = 200


class Queue:
    """The table, filled and kept full."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = 0

    def add(self, count: int, *, every: int, devices: int = DEVICES) -> None:
        """So many chunks, of which each `every`-th waits and the others are DONE, of that many
        devices in turn."""
        values = {"first": self._last + 1, "last": self._last + count}
        self._connection.execute(INSERT, values | {"every": every, "devices": devices})
        self._last += count

    def replace(self, chunk_ids: Sequence[UUID | str]) -> None:
        """These are done, and as many new ones wait."""
        self._connection.execute(FINISH, [[str(chunk_id) for chunk_id in chunk_ids]])
        self.add(len(chunk_ids), every=1)

    def settle(self) -> None:
        """As autovacuum leaves it."""
        self._connection.execute("VACUUM (ANALYZE) audio_chunks")


def run(folder: Path, plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """Fill, claim, explain; what was found."""
    token = generate_token()
    environ = {"INTERNAL_TOKEN": token}
    with (
        Site(folder, workers=1, environ=environ) as site,
        site.connect() as connection,
    ):
        for _ in range(DEVICES):
            site.new_recorder()
        queue = Queue(connection)
        show(f"claim: a table of {plan.rows} rows is filled")
        queue.add(plan.rows, every=plan.rows // WAITING)
        spread = _measure(site, queue, token, plan.claims)
        show("claim: a backlog comes")
        queue.add(plan.rows // 10 - WAITING, every=1, devices=1)
        backlog = _measure(site, queue, token, plan.claims)
    found = {"spread": spread, "backlog": backlog}
    kept = not any(case["seq_scans"] for case in found.values())
    return {"kept": kept, "rows": plan.rows, "claims": plan.claims, "batch": BATCH, **found}


def _measure(site: Site, queue: Queue, token: str, claims: int) -> dict[str, Any]:
    queue.settle()
    client = ApiClient(site.address, token)
    settings = _settings(site)
    database = Database(settings)
    leases = Leases(database, max_attempts=settings.max_attempts)

    def claim() -> list[UUID | str]:
        return [chunk.chunk_id for chunk in leases.claim(CLAIM)]

    def claim_over_http() -> list[UUID | str]:
        chunks = client.claim(CLAIM.worker, limit=BATCH, lease_seconds=LEASE_SECONDS)
        return [chunk["chunk_id"] for chunk in chunks]

    with site.connect() as connection:
        waiting = connection.execute("SELECT count(*) FROM audio_chunks WHERE status = 'QUEUED'")
        found = {"waiting": (waiting.fetchone() or [0])[0], **_explain(connection)}
    found["function"] = _time(claim, queue, claims)
    found["http"] = _time(claim_over_http, queue, claims)
    client.close()
    database.close()
    return found


def _settings(site: Site) -> Settings:
    return Settings.from_environ({"DATABASE_URL": site.database_url, "DATABASE_POOL_SIZE": "1"})


def _time(claim: Callable[[], list[UUID | str]], queue: Queue, claims: int) -> dict[str, float]:
    took = []
    for _ in range(claims):
        started = time.perf_counter()
        chunk_ids = claim()
        took.append(time.perf_counter() - started)
        if len(chunk_ids) != BATCH:
            raise SiteError(f"{len(chunk_ids)} chunks were claimed, not {BATCH}")
        queue.replace(chunk_ids)
    return milliseconds(took)


def _explain(connection: Connection) -> dict[str, Any]:
    """The indexes by which a claim's statements find what waits; each of their sequential scans of
    the table, of which there must be none."""
    nodes = [
        node
        for name, values in (
            ("leases/expire_leases", {"max_attempts": 1}),
            ("leases/claim_chunks", VALUES),
        )
        for node in _plan_of(connection, name, values)
    ]
    scans = [node for node in nodes if node["Node Type"] == "Seq Scan"]
    return {
        "indexes": sorted({node["Index Name"] for node in nodes if "Index Name" in node}),
        "seq_scans": sum(node["Relation Name"] == "audio_chunks" for node in scans),
    }


def _plan_of(connection: Connection, name: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    explain = b"EXPLAIN (FORMAT JSON) " + statement(name)
    row = connection.execute(explain, values).fetchone()
    assert row
    document = json.loads(row[0]) if isinstance(row[0], str) else row[0]
    return list(_nodes(document[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
