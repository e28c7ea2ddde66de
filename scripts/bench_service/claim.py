"""What a claim costs on a large table.

First few chunks wait, of many devices; then many, most of them of one device, as when it was
offline for days. Whether the right chunks are given is for the tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import UUID

from lab.recorder import connect
from lab.service import Site, SiteError

from bench_service.devices import register
from bench_service.fill import QUEUED, fill
from bench_service.machine import milliseconds, show
from ingest_api.database.pool import Connection, Database
from ingest_api.models.queue import Claim
from ingest_api.settings import Settings
from ingest_api.tokens import generate_token
from ingest_api.usecases.leases import Leases

DEVICES = 100
BATCH = 10
CLAIM = Claim("benchmark", BATCH, timedelta(seconds=300), None)
_FINISH = """
    UPDATE audio_chunks SET status = 'DONE', lease_expires_at = NULL
    WHERE chunk_id = ANY(%s::uuid[])
"""
_WAITING = "SELECT count(*) FROM audio_chunks WHERE status = 'QUEUED'"
_SEQ_SCANS = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'audio_chunks'"
_Ids = Sequence[UUID | str]


def run(folder: Path, *, rows: int, claims: int) -> dict[str, Any]:
    """Fill a table and claim from it, in this process and over HTTP."""
    token = generate_token()
    with (
        Site(folder, workers=1, environ={"INTERNAL_TOKEN": token}) as site,
        site.connect() as connection,
    ):
        devices, now = register(site.database_url, DEVICES), datetime.now(UTC)
        show(f"claim: a table of {rows} rows is filled")
        fill(connection, devices, rows, end=now, queued=max(QUEUED, 2 * claims * BATCH))
        spread = _measure(site, connection, token, claims)
        show("claim: a backlog of one device comes")
        fill(connection, devices[:1], rows // 10, end=now - timedelta(days=1), queued=rows // 10)
        backlog = _measure(site, connection, token, claims)
    kept = not any(case["seq_scans"] for case in (spread, backlog))
    return {"kept": kept, "rows": rows, "claims": claims, "spread": spread, "backlog": backlog}


def _measure(site: Site, connection: Connection, token: str, claims: int) -> dict[str, Any]:
    [waiting] = connection.execute(_WAITING).fetchone() or [0]
    before = _seq_scans(connection)
    settings = Settings.from_environ({"DATABASE_URL": site.database_url, "DATABASE_POOL_SIZE": "1"})
    database = Database(settings)
    leases = Leases(database, max_attempts=settings.max_attempts)
    direct = _time(lambda: [chunk.chunk_id for chunk in leases.claim(CLAIM)], connection, claims)
    database.close()  # which tells the statistics about its scans
    found = {"waiting": waiting, "seq_scans": _seq_scans(connection) - before, "function": direct}
    http = connect(site.address)
    found["http"] = _time(lambda: _claim_over_http(http, token), connection, claims)
    http.close()
    return found


def _seq_scans(connection: Connection) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    [scans] = connection.execute(_SEQ_SCANS).fetchone() or [0]
    return int(scans)


def _claim_over_http(http: HTTPConnection, token: str) -> list[str]:
    body = {"worker": CLAIM.worker, "limit": BATCH, "lease_sec": 300}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    http.request("POST", "/api/v1/internal/claim", json.dumps(body), headers)
    response = http.getresponse()
    content = response.read()
    if response.status != 200:
        raise SiteError(f"a claim was answered {response.status}: {content[:300]!r}")
    return [chunk["chunk_id"] for chunk in json.loads(content)["chunks"]]


def _time(claim: Callable[[], _Ids], connection: Connection, claims: int) -> dict[str, float]:
    took = []
    for _ in range(claims):
        started = time.perf_counter()
        chunk_ids = claim()
        took.append(time.perf_counter() - started)
        if len(chunk_ids) != BATCH:
            raise SiteError(f"{len(chunk_ids)} chunks were claimed, not {BATCH}")
        connection.execute(_FINISH, [[str(chunk_id) for chunk_id in chunk_ids]])
    return milliseconds(took)


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    yield "claim: {claims} claims of 10 in a table of {rows} rows".format_map(found)
    for name, what in (("spread", "of 100 devices"), ("backlog", "most of one device")):
        case = found[name]
        yield f"  {case['waiting']} QUEUED, {what}"
        for way, label in (("function", "in the process"), ("http", "over HTTP")):
            yield f"    {label:15}p50 {{p50_ms}}, p99 {{p99_ms}}, max {{max_ms}} ms".format_map(
                case[way]
            )
        yield f"    {case['seq_scans']} sequential scans: must be 0"
