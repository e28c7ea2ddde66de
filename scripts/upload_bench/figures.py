"""What the turns of all who take part add up to: medians, ratios, and whether the service is as
fast as it should be.

How they were measured, and how they are told, does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench_tools.machine import MIB

from upload_bench.load import Round

TO_LIMIT = 0.40
TO_SEAWEEDFS = 1.0
P99_MS = 100.0


@dataclass(frozen=True)
class Cpu:
    """Seconds of processor time so far, or between two moments."""

    server: float  # its processes
    postgresql: float
    load: float

    def __sub__(self, before: Cpu) -> Cpu:
        return Cpu(
            self.server - before.server,
            self.postgresql - before.postgresql,
            self.load - before.load,
        )


@dataclass(frozen=True)
class Turn:
    """One round of one of them."""

    round: Round
    cpu: Cpu
    peak_bytes: int
    pss_bytes: int
    faults: tuple[str, ...]


def add_up(turns: Mapping[str, Sequence[Turn]]) -> dict[str, Any]:
    """The figures of each, and the targets."""
    found = {name: _figures(name, mine) for name, mine in turns.items()}
    best = max(_limits(found).values(), key=_rate)
    for figures in found.values():
        figures["to_limit"] = round(_rate(figures) / _rate(best), 3)
        figures["service_to_it"] = round(_rate(found["service"]) / max(_rate(figures), 0.1), 3)
    targets = list(_targets(found))
    faults = [f"{name}: {fault}" for name in turns for turn in turns[name] for fault in turn.faults]
    failed = any(figures["errors"] for figures in found.values())
    kept = not failed and not faults and all(target["kept"] is not False for target in targets)
    return {"kept": kept, "contenders": found, "targets": targets, "faults": faults}


def _figures(name: str, turns: Sequence[Turn]) -> dict[str, Any]:
    rounds = [turn.round for turn in turns]
    rates = [round(came.uploads / came.seconds, 1) for came in rounds]
    return {
        "uploads_per_second": median(rates),
        "rounds": rates,
        "uploads": sum(came.uploads for came in rounds),
        "errors": sum(came.errors for came in rounds),
        "p50_ms": round(median(came.p50_ms for came in rounds), 2),
        "p99_ms": round(median(came.p99_ms for came in rounds), 2),
        "max_ms": round(max(came.max_ms for came in rounds), 2),
        "cpu_ms_per_upload": _cpu(name, turns),
        "peak_mib": round(max(turn.peak_bytes for turn in turns) / MIB, 1),
        "pss_mib": round(max(turn.pss_bytes for turn in turns) / MIB, 1),
    }


def _cpu(name: str, turns: Sequence[Turn]) -> dict[str, float]:
    """Without the parts that a contender has not: nginx no rows, bare processes no load."""
    if name == "service":
        parts = ["server", "postgresql", "load"]
    else:
        parts = ["server", "postgresql" if name.startswith("limit") else "load"]
    return {who: _each(who, turns) for who in parts}


def _each(who: str, turns: Sequence[Turn]) -> float:
    costs: list[float] = [getattr(turn.cpu, who) / max(1, turn.round.uploads) for turn in turns]
    return round(1000 * median(costs), 3)


def _limits(found: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: figures for name, figures in found.items() if name.startswith("limit")}


def _rate(figures: Mapping[str, Any]) -> float:
    return float(figures["uploads_per_second"])


def _targets(found: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """`kept` is None for what could not be compared."""
    service = found["service"]
    to_limit, p99 = service["to_limit"], service["p99_ms"]
    yield _target("service to the limit", to_limit, f">= {TO_LIMIT:.2f}", to_limit >= TO_LIMIT)
    weed = found.get("seaweedfs")
    to_weed = weed["service_to_it"] if weed else None
    kept = None if to_weed is None else to_weed >= TO_SEAWEEDFS
    yield _target("service to seaweedfs", to_weed, f">= {TO_SEAWEEDFS:.2f}", kept)
    yield _target("p99 of the service, ms", p99, f"< {P99_MS:g}", p99 < P99_MS)


def _target(what: str, value: float | None, wanted: str, kept: bool | None) -> dict[str, Any]:
    return {"what": what, "value": value, "wanted": wanted, "kept": kept}
