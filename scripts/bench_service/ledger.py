"""What questions to the ledger cost on a large table: pages, coverage, the fleet, a whole export.

The table is filled by SQL, without files. Whether the answers are right is for the tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lab.recorder import Recorder, connect
from lab.service import Site, SiteError

from bench_service.devices import register
from bench_service.fill import fill
from bench_service.machine import milliseconds, show
from ingest_api.database.pool import Connection
from ingest_api.tokens import generate_token

POINT_DEVICES = 4
MONTH = 31 * 1440  # chunks of one device
REPEATS = 50
PROMISED = {
    "page": 10,
    "point_day": 20,
    "device_month": 50,
    "fleet": 150,
    "scrape": 300,
}  # milliseconds
EXPORT_SECONDS, EXPORT_MIB = 20, 60

_POINTS = """
    UPDATE devices SET point_id = (%(points)s::uuid[])[1 + place / %(each)s]
    FROM unnest(%(devices)s::uuid[]) WITH ORDINALITY AS listed (device_id, place)
    WHERE devices.device_id = listed.device_id
"""
_HOURS = """
    INSERT INTO recorded_hours
    SELECT device_id, date_bin('1 hour', now(), 'epoch') - number * interval '1 hour',
        (1::bigint << 60) - 1, 60, 11433240
    FROM devices, generate_series(0, %s) AS number
    ON CONFLICT DO NOTHING
"""
_SEEN = "UPDATE devices SET last_seen_at = now(), recorded_until = now()"
_SEQ_SCANS = """
    SELECT sum(seq_scan) FROM pg_stat_user_tables
    WHERE relname IN ('audio_chunks', 'recorded_hours')
"""


def run(folder: Path, *, rows: int, devices: int, days: int) -> dict[str, Any]:
    """Fill the tables, ask each question some times, and export up to a million chunks."""
    token = generate_token()
    with (
        Site(folder, workers=1, environ={"ADMIN_TOKEN": token}) as site,
        site.connect() as connection,
    ):
        fleet = register(site.database_url, devices)
        _fill(connection, fleet, rows, days)
        before = _seq_scans(connection)
        bearer = {"Authorization": f"Bearer {token}"}
        http = connect(site.address)
        cases = {
            name: _time(http, path, bearer) for name, path in _questions(connection, fleet).items()
        }
        export = _export(site, bearer)
        seq_scans = _seq_scans(connection) - before
    slow = [name for name, case in cases.items() if case["p50_ms"] > PROMISED[name.split()[0]]]
    kept = not (slow or seq_scans or export["mib"] > EXPORT_MIB)
    kept = kept and export["seconds"] <= EXPORT_SECONDS * export["rows"] / 1e6 + 1
    sizes = {"rows": rows, "devices": devices, "days": days, "seq_scans": seq_scans}
    return {"kept": kept, **sizes, "cases": cases, "export": export}


def _fill(connection: Connection, fleet: Sequence[Recorder], rows: int, days: int) -> None:
    now = datetime.now(UTC)
    ids = [device.device_id for device in fleet]
    points = [device.point_id for device in fleet]
    connection.execute(_POINTS, {"points": points, "devices": ids, "each": POINT_DEVICES})
    show(f"ledger: {rows} chunks of {len(fleet)} devices, and a month of one of them")
    fill(connection, fleet, rows, end=now)
    fill(connection, fleet[:1], min(rows, MONTH), end=now - timedelta(days=1), queued=0)
    show(f"ledger: {days} days of recorded hours")
    connection.execute(_HOURS, [days * 24])
    connection.execute(_SEEN)
    connection.execute("VACUUM ANALYZE")


def _questions(connection: Connection, fleet: Sequence[Recorder]) -> dict[str, str]:
    now = datetime.now(UTC)
    [point] = connection.execute(
        "SELECT point_id FROM devices WHERE device_id = %s", [fleet[0].device_id]
    ).fetchone() or [None]
    device = {"device_id": str(fleet[0].device_id)}
    start = {"from": (now - timedelta(hours=3)).isoformat()}
    month = {"from": (now - timedelta(days=31)).isoformat(), "to": now.isoformat(), "step": "1d"}
    day = {"from": (now - timedelta(days=1)).isoformat(), "to": now.isoformat()}
    return {
        "page of all": _path("chunks", order="desc"),
        "page of all, later": _path("chunks", **start),
        "page of a status": _path("chunks", status="QUEUED"),
        "page of a status, later": _path("chunks", status="DONE", **start),
        "page of a point": _path("chunks", point_id=str(point), order="desc"),
        "page of a device": _path("chunks", **device, **start),
        "point_day": _path("coverage", point_id=str(point), **day),
        "device_month": _path("coverage", **device, **month),
        "fleet": _path("fleet"),
        "scrape": "/metrics",
    }


def _path(noun: str, **query: str) -> str:
    return f"/api/v1/admin/{noun}?{urlencode(query)}"


def _time(http: HTTPConnection, path: str, headers: dict[str, str]) -> dict[str, float]:
    spent = []
    for _ in range(REPEATS):
        started = time.monotonic()
        http.request("GET", path, headers=headers)
        answer = http.getresponse()
        body = answer.read()
        spent.append(time.monotonic() - started)
        if answer.status != 200:
            raise SiteError(f"{path}: {answer.status} {body[:300].decode()}")
    return milliseconds(spent) | {"bytes": len(body)}


def _export(site: Site, headers: dict[str, str]) -> dict[str, float]:
    """Export the newest million chunks at most; return what it took, with the process's memory."""
    before = _memory(site)
    http = connect(site.address)
    since = urlencode({"from": (datetime.now(UTC) - timedelta(minutes=100)).isoformat()})
    started, rows = time.monotonic(), -1
    path = f"/api/v1/admin/chunks?{since}"
    http.request("GET", path, headers=headers | {"Accept": "text/csv"})
    answer = http.getresponse()
    while data := answer.read(1 << 16):
        rows += data.count(b"\n")
    seconds = time.monotonic() - started
    return {"rows": rows, "seconds": round(seconds, 2), "mib": round(_memory(site) - before, 1)}


def _memory(site: Site) -> float:
    """Return the most memory that a server process has had, in MiB."""
    pids = site.service.workers()
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(text.partition("VmHWM:")[2].split()[0]) for text in texts) / 1024


def _seq_scans(connection: Connection) -> int:
    time.sleep(1.5)  # sessions report their scans at most once a second
    [scans] = connection.execute(_SEQ_SCANS).fetchone() or [0]
    return int(scans)


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    sizes = "{rows} chunks, {devices} devices, {days} days; sequential scans: {seq_scans}"
    yield f"ledger: {sizes}".format_map(found)
    for name, case in found["cases"].items():
        promised = PROMISED[name.split()[0]]
        yield f"  {name:24} {json.dumps(case)}; promised {promised} ms"
    export = found["export"]
    yield "  export of {rows} rows as CSV: {seconds} s, {mib} MiB more memory".format_map(export)
