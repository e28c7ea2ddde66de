"""Uploads as fast as they are answered: the bare limit, the service and others beside it, in turn.

All of them run at once on one machine and get the same bytes; the others wait meanwhile. Who they
are: contenders.py, seaweedfs.py.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from lab.service import Site, SiteError

from bench_service.contenders import Contender, Service, limit, other_version, revision
from bench_service.load import Round
from bench_service.machine import (
    SERVER_PROCESSES,
    SETTLING_SECONDS,
    median,
    postgres_cpu,
    show,
)
from bench_service.seaweedfs import seaweedfs

ROOT = Path(__file__).resolve().parents[2]
MOST_P99_MS = 100.0
LEAST_RATIO = 0.98  # to another version
SEAWEEDFS, SERVICE, LIMIT = "seaweedfs", "service", "limit"
_FREE_BYTES = 2**30
_BYTES_A_SECOND = 600_000_000  # more than any of them writes


class Turn(NamedTuple):
    """One round of one of them; processor time in seconds."""

    round: Round
    cpu: float
    postgres_cpu: float
    faults: Sequence[str]


def run(
    folder: Path, *, rounds: int, seconds: float, connections: int, beside: Sequence[str]
) -> dict[str, Any]:
    """Measure all of them in turn."""
    _require_space(folder, seconds)
    with Site(folder / "site", workers=SERVER_PROCESSES) as site, ExitStack() as stack:
        contenders = _start(site, folder, connections, beside, stack)
        turns = _measure(site, contenders, rounds, seconds)
        with site.connect() as connection:
            [postgres] = connection.execute("SHOW server_version").fetchone() or ["?"]
    found = {name: _figures(turns[name], turns[SERVICE]) for name in contenders}
    for name, contender in contenders.items():
        found[name] |= {"version": contender.version, "promise": contender.promise}
    plan = {"rounds": rounds, "seconds": seconds, "connections": connections}
    return plan | {"postgresql": postgres, "kept": is_kept(found), "contenders": found}


def is_kept(found: Mapping[str, dict[str, Any]]) -> bool:
    """Return whether nothing failed, and the service is as fast as promised."""
    others = [figures for name, figures in found.items() if "/" in name]
    return (
        not any(figures["errors"] or figures["faults"] for figures in found.values())
        and found[SERVICE]["p99_ms"] < MOST_P99_MS
        and all(other["service_is"] >= LEAST_RATIO for other in others)
    )


def _require_space(folder: Path, seconds: float) -> None:
    wanted, free = _FREE_BYTES + seconds * _BYTES_A_SECOND, shutil.disk_usage(folder).free
    if free < wanted:
        raise SiteError(
            f"{folder} has {free / 1e9:.1f} GB free, and a round may need {wanted / 1e9:.1f}: name"
            " another --folder, or take fewer --seconds"
        )


def _start(
    site: Site, folder: Path, connections: int, beside: Sequence[str], stack: ExitStack
) -> dict[str, Contender]:
    """Start them, in the order of their turns."""
    found: dict[str, Contender] = {
        LIMIT: stack.enter_context(limit(site, folder / LIMIT)),
        SERVICE: Service(site.service, connections, revision(ROOT)),
    }
    for number, name in enumerate(beside):
        place = folder / f"beside-{number}"
        if name == SEAWEEDFS:
            found[name] = stack.enter_context(seaweedfs(place, connections))
        else:
            checkout = Path(name).resolve()
            service = stack.enter_context(other_version(site, checkout, place))
            found[str(checkout)] = Service(service, connections, revision(checkout))
    return found


def _measure(
    site: Site, contenders: Mapping[str, Contender], rounds: int, seconds: float
) -> dict[str, list[Turn]]:
    """Take turns, because machines are noisy; each round begins with another of them.

    The first round is not counted: in it the devices get their folders, and caches are filled.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            turn = _take_turn(site, contenders[name], seconds)
            rate = turn.round.accepted / turn.round.seconds
            what = f"round {number} of {rounds}" if number else "warm-up"
            show(f"upload: {what}: {name} {rate:.0f}/s")
            if number or turn.faults or turn.round.errors:
                turns[name].append(turn)
    return turns


def _take_turn(site: Site, contender: Contender, seconds: float) -> Turn:
    # What one has left to be written must not be charged to the next.
    os.sync()
    with site.connect() as connection:
        connection.execute("CHECKPOINT")
    before = contender.cpu(), postgres_cpu(site)
    came = contender.send(seconds)
    time.sleep(SETTLING_SECONDS)
    used, postgres = contender.cpu() - before[0], postgres_cpu(site) - before[1]
    return Turn(came, used, postgres, tuple(contender.clear(came)))


def _figures(turns: Sequence[Turn], service: Sequence[Turn]) -> dict[str, Any]:
    """Sum up the rounds; `service_is` is the median of the ratios of each round."""
    rates, own = _rates(turns), _rates(service)
    return {
        "uploads_per_second": median(rates),
        "rounds": rates,
        "p50_ms": median(turn.round.p50_ms for turn in turns),
        "p99_ms": median(turn.round.p99_ms for turn in turns),
        "errors": sum(turn.round.errors for turn in turns),
        "cpu_ms": median(1000 * turn.cpu / max(1, turn.round.accepted) for turn in turns),
        "postgresql_ms": median(
            1000 * turn.postgres_cpu / max(1, turn.round.accepted) for turn in turns
        ),
        "service_is": median(a / max(b, 0.1) for a, b in zip(own, rates, strict=False)),
        "faults": [fault for turn in turns for fault in turn.faults],
    }


def _rates(turns: Sequence[Turn]) -> list[float]:
    return [round(turn.round.accepted / turn.round.seconds, 1) for turn in turns]


def tell(found: dict[str, Any]) -> Iterator[str]:
    """Describe the result for people."""
    yield (
        "upload: {connections} connections, {processes} server processes, PostgreSQL {postgresql};"
        " median of {rounds} rounds of {seconds:g} s, in turn; CPU: ms an upload"
    ).format(processes=SERVER_PROCESSES, **found)
    yield (
        f"  {'':18}{'uploads/s':>10}{'min..max':>13}{'p50 ms':>8}{'p99 ms':>8}{'errors':>7}"
        f"{'CPU':>7}{'PostgreSQL':>11}{'service is':>11}"
    )
    for name, figures in found["contenders"].items():
        spread = f"{min(figures['rounds']):.0f}..{max(figures['rounds']):.0f}"
        yield (
            f"  {name[-18:]:18}{figures['uploads_per_second']:>10.0f}{spread:>13}"
            f"{figures['p50_ms']:>8.1f}{figures['p99_ms']:>8.1f}{figures['errors']:>7}"
            f"{figures['cpu_ms']:>7.2f}{figures['postgresql_ms']:>11.2f}"
            f"{figures['service_is']:>10.3f}x"
        )
    for name, figures in found["contenders"].items():
        yield f"  {name}: {figures['version']}; {figures['promise']}"
        yield from (f"    not as it should be: {fault}" for fault in figures["faults"])
    yield f"  promised: no errors; the service's p99 below {MOST_P99_MS:g} ms"
    yield f"  and at least {LEAST_RATIO} of the uploads of another version"
