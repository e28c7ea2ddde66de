"""Uploads as fast as they are answered: the bare limit, the service and others beside it, in turn.

All of them run at once on one machine and get the same bytes; the others wait meanwhile. Who they
are: bare.py, contenders.py, seaweedfs.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lab.service import Site

from bench_service.bare import limit
from bench_service.contenders import Contender, Service, version
from bench_service.machine import SERVER_PROCESSES, median, show
from bench_service.seaweedfs import seaweedfs
from bench_service.turns import HEAD, Turn, line, sum_up, take_turn

ROOT = Path(__file__).resolve().parents[2]
MOST_P99_MS = 100.0
LEAST_RATIO = 0.98  # to another version
SEAWEEDFS, SERVICE, LIMIT = "seaweedfs", "service", "limit"


def run(
    folder: Path, *, rounds: int, seconds: float, connections: int, beside: Sequence[str]
) -> dict[str, Any]:
    """Measure all of them in turn."""
    with Site(folder / "site", workers=SERVER_PROCESSES) as site, ExitStack() as stack:
        contenders = _start(site, folder, connections, beside, stack)
        turns, faults = _measure(site, contenders, rounds, seconds)
        with site.connect() as connection:
            [postgres] = connection.execute("SHOW server_version").fetchone() or ["?"]
    own = [turn.rate for turn in turns[SERVICE]]
    found = {}
    for name, contender in contenders.items():
        ratios = (a / max(turn.rate, 0.1) for a, turn in zip(own, turns[name], strict=True))
        found[name] = sum_up(turns[name]) | {"about": contender.about, "service_is": median(ratios)}
    plan = {"rounds": rounds, "seconds": seconds, "connections": connections, "faults": faults}
    return plan | {"postgresql": postgres, "kept": is_kept(found, faults), "contenders": found}


def is_kept(found: Mapping[str, dict[str, Any]], faults: Sequence[str]) -> bool:
    """Return whether nothing failed, and the service is as fast as promised."""
    versions = [figures for name, figures in found.items() if "/" in name]
    return (
        not faults
        and not any(figures["errors"] for figures in found.values())
        and found[SERVICE]["p99_ms"] < MOST_P99_MS
        and all(other["service_is"] >= LEAST_RATIO for other in versions)
    )


def _start(
    site: Site, folder: Path, connections: int, beside: Sequence[str], stack: ExitStack
) -> dict[str, Contender]:
    """Start them, in the order of their turns."""
    found: dict[str, Contender] = {LIMIT: stack.enter_context(limit(site, folder / LIMIT))}
    for number, name in enumerate([str(ROOT), *beside]):
        place = folder / f"contender-{number}"
        if name == SEAWEEDFS:
            found[name] = stack.enter_context(seaweedfs(place, connections))
        else:
            checkout = Path(name).absolute()
            # This version too: the site's own service, beside PostgreSQL's files, is slower.
            service = stack.enter_context(version(site, checkout, place))
            key = str(checkout) if number else SERVICE
            found[key] = Service(service, connections, checkout)
    return found


def _measure(
    site: Site, contenders: Mapping[str, Contender], rounds: int, seconds: float
) -> tuple[dict[str, list[Turn]], list[str]]:
    """Take turns, because machines are noisy; each round begins with another of them.

    The first round is not counted: in it the devices get their folders, and caches are filled.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    faults = []
    names = list(contenders)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            _settle(site)
            turn = take_turn(site, contenders[name], seconds)
            faults += [f"{name}: {fault}" for fault in contenders[name].clear(turn.round)]
            turns[name] += [turn] if number else []
            what = f"round {number} of {rounds}" if number else "warm-up"
            show(f"upload: {what}: {name} {turn.rate:.0f}/s")
    return turns, faults


def _settle(site: Site) -> None:
    """Write everything, so that what one has left is not charged to the next."""
    os.sync()
    with site.connect() as connection:
        connection.execute("CHECKPOINT")


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    yield (
        "upload: {connections} connections, {processes} server processes, PostgreSQL {postgresql};"
        " median of {rounds} rounds of {seconds} s, in turn"
    ).format(processes=SERVER_PROCESSES, **found)
    yield f"{HEAD}{'service is':>11}"
    for name, figures in found["contenders"].items():
        yield f"{line(name, figures)}{figures['service_is']:>10.3f}x"
    for name, figures in found["contenders"].items():
        yield f"  {name}: {figures['about']}"
    yield from (f"  not as it should be: {fault}" for fault in found["faults"])
    yield f"  promised: no errors, the service's p99 below {MOST_P99_MS:g} ms,"
    yield f"  and at least {LEAST_RATIO} times the uploads of another version"
