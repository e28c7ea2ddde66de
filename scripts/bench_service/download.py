"""What a download costs, and what the same request costs without a body: 304, and /health/live."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lab.service import Site, SiteError

from bench_service.devices import register
from bench_service.load import SPEECH, Load, Requests, Round, request, uploads
from bench_service.machine import (
    SERVER_PROCESSES,
    SETTLING_SECONDS,
    median,
    postgres_cpu,
    service_cpu,
    show,
)
from ingest_api.tokens import generate_token

FILES = 200
CASES = {"file": "the file", "unchanged": "304, no body", "live": "/health/live"}
_STORED = "SELECT chunk_id, encode(sha256, 'hex') FROM audio_chunks LIMIT %s"


class Turn(NamedTuple):
    """One round of one kind of request; processor time in seconds."""

    round: Round
    service: float
    postgresql: float


def run(folder: Path, *, rounds: int, seconds: float, connections: int) -> dict[str, Any]:
    """Upload some files, and download them in turn with the other requests."""
    token = generate_token()
    with Site(folder, workers=SERVER_PROCESSES, environ={"INTERNAL_TOKEN": token}) as site:
        loads = {
            name: Load(site.address, requests, folder / name)
            for name, requests in _requests(site, token).items()
        }
        turns: dict[str, list[Turn]] = {name: [] for name in loads}
        for number in range(rounds + 1):
            show(f"download: round {number} of {rounds}" if number else "download: warm-up")
            for name, load in loads.items():
                turn = _take_turn(site, load, connections, seconds if number else 1)
                turns[name] += [turn] if number else []
    found = {name: _figures(mine) for name, mine in turns.items()}
    kept = not any(case["errors"] for case in found.values())
    return {"kept": kept, "rounds": rounds, "connections": connections, "cases": found}


def _requests(site: Site, token: str) -> Mapping[str, Requests]:
    """Store recordings; return the requests for them, of each kind."""
    load = Load(site.address, uploads(register(site.database_url, 20)), site.folder / "uploads")
    stored = load.send(connections=4, seconds=1)
    with site.connect() as connection:
        rows = connection.execute(_STORED, [FILES]).fetchall()
    if stored.errors or not rows:
        raise SiteError(f"{stored.errors} uploads failed, {len(rows)} are stored")
    path, bearer = "/api/v1/internal/chunks/%s/file", {"Authorization": f"Bearer {token}"}
    files = [request("GET", path % chunk_id, bearer) for chunk_id, _ in rows]
    unchanged = [
        request("GET", path % chunk_id, bearer | {"If-None-Match": f'"{sha256}"'})
        for chunk_id, sha256 in rows
    ]
    return {
        "file": Requests([(head, "") for head in files]),
        "unchanged": Requests([(head, "") for head in unchanged], accepted=304),
        "live": Requests([(request("GET", "/health/live", {}), "")]),
    }


def _take_turn(site: Site, load: Load, connections: int, seconds: float) -> Turn:
    before = service_cpu(site.service), postgres_cpu(site)
    came = load.send(connections=connections, seconds=seconds)
    time.sleep(SETTLING_SECONDS)
    return Turn(came, service_cpu(site.service) - before[0], postgres_cpu(site) - before[1])


def _figures(turns: list[Turn]) -> dict[str, Any]:
    return {
        "requests_per_second": median(turn.round.accepted / turn.round.seconds for turn in turns),
        "errors": sum(turn.round.errors for turn in turns),
        "p99_ms": median(turn.round.p99_ms for turn in turns),
        "service_ms": median(1000 * turn.service / max(1, turn.round.accepted) for turn in turns),
        "postgresql_ms": median(
            1000 * turn.postgresql / max(1, turn.round.accepted) for turn in turns
        ),
    }


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    yield (
        f"download: {{connections}} connections, {SPEECH.stat().st_size} bytes a file; median of"
        " {rounds} rounds; CPU: ms a request"
    ).format_map(found)
    yield f"  {'':16}{'requests/s':>10}{'p99 ms':>8}{'errors':>7}{'CPU':>7}{'PostgreSQL':>11}"
    for name, case in found["cases"].items():
        yield (
            f"  {CASES[name]:16}{case['requests_per_second']:>10.0f}{case['p99_ms']:>8.1f}"
            f"{case['errors']:>7}{case['service_ms']:>7.2f}{case['postgresql_ms']:>11.2f}"
        )
