"""What a download costs: from the service, and from nginx with the very same files, in turn; and
what the service's answers without a body cost, to see what it is that costs so much.

What is sent, and how: load.py.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench_tools.client import BASE
from bench_tools.machine import (
    SERVING,
    SETTLING_SECONDS,
    cpu_seconds,
    load_cpu,
    loopback_mtu,
    postgres_cpu,
    service_cpu,
)
from bench_tools.nginx import Nginx, serving
from bench_tools.programs import generator
from lab.service import Site, SiteError

from ingest_api.tokens import generate_token
from queue_bench.load import Load, Round
from queue_bench.uploads import Uploads

CONNECTIONS = 16


@dataclass(frozen=True)
class Plan:
    """How long, and of how many files."""

    files: int = 200
    rounds: int = 5
    seconds: float = 5.0
    serving: int = SERVING  # gunicorn's workers
    mtu: int = 1500


@dataclass
class Case:
    """One kind of request to one server, and what each round of it came to."""

    address: tuple[str, int]
    requests: list[str]
    expected: tuple[int, int]  # the status and the length of the body of the first
    rounds: list[Round] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)  # seconds, by who used them

    def require_right_answer(self) -> None:
        """SiteError: to measure another answer would say nothing."""
        connection = HTTPConnection(*self.address, timeout=30)
        head, *lines = self.requests[0].strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        connection.request("GET", head.split()[1], headers=headers)
        response = connection.getresponse()
        found = response.status, len(response.read())
        connection.close()
        if found != self.expected:
            raise SiteError(f"{head}: {found}, not {self.expected}")

    def facts(self) -> dict[str, Any]:
        rates = [part.answers / part.seconds for part in self.rounds]
        rate = statistics.median(rates)
        return {
            "requests_per_second": round(rate, 1),
            "rounds": [round(value, 1) for value in rates],
            "megabytes_per_second": round(rate * self.expected[1] / 1e6, 1),
            "errors": sum(part.errors for part in self.rounds),
            "cpu_ms_per_request": {who: self._cpu(who) for who in self.cpu[0]},
        }

    def _cpu(self, who: str) -> float:
        costs = [
            used[who] / max(1, part.answers)
            for used, part in zip(self.cpu, self.rounds, strict=True)
        ]
        return round(1000 * statistics.median(costs), 3)


def run(folder: Path, plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """Upload, measure; what was found."""
    token = generate_token()
    environ = {"INTERNAL_TOKEN": token}
    with (
        Site(folder, workers=plan.serving, environ=environ) as site,
        loopback_mtu(plan.mtu) as mtu,
        serving(site.storage, folder) as nginx,
    ):
        uploads = Uploads(site)
        uploads.send_at_once(plan.files)
        if uploads.failures:
            raise SiteError(f"uploads failed: {dict(uploads.failures)}")
        cases = _cases(site, uploads, token, nginx)
        _measure(site, nginx, cases, plan, show)
    found = {name: case.facts() for name, case in cases.items()}
    return {
        "kept": not any(case["errors"] for case in found.values()),
        "mtu": mtu,
        "generator": generator(),
        "connections": CONNECTIONS,
        "cases": found,
        **_ratio(found),
    }


def _ratio(found: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    if "nginx" not in found:
        return {}
    rates = [found[name]["requests_per_second"] for name in ("nginx", "file")]
    return {"nginx_to_service": round(rates[0] / rates[1], 2)}


def _cases(site: Site, uploads: Uploads, token: str, nginx: Nginx | None) -> dict[str, Case]:
    path = f"{BASE}/chunks/%s/file"
    bearer = {"Authorization": f"Bearer {token}"}
    size = (site.storage / next(iter(uploads.stored.values()))).stat().st_size
    file = [_request(path % chunk_id, bearer) for chunk_id in uploads.stored]
    unchanged = [
        _request(path % chunk_id, bearer | {"If-None-Match": f'"{sha256}"'})
        for chunk_id, sha256 in uploads.acknowledged.items()
    ]
    cases = {"file": Case(site.address, file, (200, size))}
    if nginx:
        plain = [_request(f"/{stored}", {}) for stored in uploads.stored.values()]
        cases["nginx"] = Case(nginx.address, plain, (200, size))
    cases["unchanged"] = Case(site.address, unchanged, (304, 0))
    live = _request("/health/live", {})
    return cases | {"live": Case(site.address, [live], (200, len('{"status":"ok"}\n')))}


def _request(path: str, headers: Mapping[str, str]) -> str:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"


def _measure(
    site: Site,
    nginx: Nginx | None,
    cases: Mapping[str, Case],
    plan: Plan,
    show: Callable[[str], None],
) -> None:
    """In turn, because machines are noisy. The first round is not counted: it fills caches."""
    loads = {}
    for name, case in cases.items():
        case.require_right_answer()
        loads[name] = Load(case.address, case.requests, site.folder / f"{name}.requests")
    for number in range(plan.rounds + 1):
        show(f"download: round {number} of {plan.rounds}")
        for name, case in cases.items():
            before = _cpu(site, nginx)
            seconds = plan.seconds if number else min(1.0, plan.seconds)
            came = loads[name].send(connections=CONNECTIONS, seconds=seconds)
            time.sleep(SETTLING_SECONDS)
            if number:
                case.rounds.append(came)
                after = _cpu(site, nginx)
                case.cpu.append({who: after[who] - before[who] for who in after})


def _cpu(site: Site, nginx: Nginx | None) -> dict[str, float]:
    return {
        "service": service_cpu(site),
        "postgresql": postgres_cpu(site),
        "nginx": cpu_seconds(_pids(nginx)),
        "load": load_cpu(),
    }


def _pids(nginx: Nginx | None) -> Iterable[int]:
    return nginx.pids() if nginx else ()
