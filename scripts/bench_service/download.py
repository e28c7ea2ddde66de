"""What a download costs, and what a request costs without the file: 304, and /health/live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.service import Site, SiteError

from bench_service.devices import register
from bench_service.load import Load, Requests, Round, request, uploads
from bench_service.machine import SERVER_PROCESSES, service_cpu, show
from bench_service.turns import HEAD, Turn, line, sum_up, take_turn
from ingest_api.tokens import generate_token

FILES = 200
_STORED = "SELECT chunk_id, encode(sha256, 'hex') FROM audio_chunks LIMIT %s"


class Case:
    """One kind of request."""

    def __init__(self, site: Site, name: str, requests: Requests, connections: int) -> None:
        self._site, self._connections = site, connections
        self._load = Load(site.address, requests, site.folder / name)

    def send(self, seconds: float) -> Round:
        return self._load.send(connections=self._connections, seconds=seconds)

    def cpu(self) -> float:
        return service_cpu(self._site.service)


def run(folder: Path, *, rounds: int, seconds: float, connections: int) -> dict[str, Any]:
    """Upload some files, and download them in turn with the other requests."""
    token = generate_token()
    with Site(folder, workers=SERVER_PROCESSES, environ={"INTERNAL_TOKEN": token}) as site:
        cases = {
            name: Case(site, name, requests, connections)
            for name, requests in _requests(site, token).items()
        }
        turns: dict[str, list[Turn]] = {name: [] for name in cases}
        for number in range(rounds + 1):  # the first is not counted: it fills caches
            show(f"download: round {number} of {rounds}" if number else "download: warm-up")
            for name, case in cases.items():
                turn = take_turn(site, case, seconds)
                turns[name] += [turn] if number else []
    found = {name: sum_up(mine) for name, mine in turns.items()}
    kept = not any(case["errors"] for case in found.values())
    return {"kept": kept, "rounds": rounds, "connections": connections, "cases": found}


def _requests(site: Site, token: str) -> dict[str, Requests]:
    """Store recordings; return the requests of each kind."""
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
        "file-304": Requests([(head, "") for head in unchanged], accepted=304),
        "health-live": Requests([(request("GET", "/health/live", {}), "")]),
    }


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    yield "download: {connections} connections; median of {rounds} rounds".format_map(found)
    yield HEAD
    yield from (line(name, case) for name, case in found["cases"].items())
