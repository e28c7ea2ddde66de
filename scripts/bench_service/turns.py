"""Rounds of requests, taken in turn, with the processor time that each of them costs.

Who takes part, and what the figures are worth, does not belong here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from lab.service import Site

from bench_service.load import Round
from bench_service.machine import median, postgres_cpu

_SETTLING_SECONDS = 0.3  # for requests that are in flight when a round ends


class Server(Protocol):
    """One that is measured."""

    def send(self, seconds: float) -> Round:
        """Send requests for a while."""
        ...

    def cpu(self) -> float:
        """Return the seconds of processor time used so far, without PostgreSQL's and the load's."""
        ...


class Turn(NamedTuple):
    """One round of one server; processor time in seconds."""

    round: Round
    cpu: float
    postgres_cpu: float

    @property
    def rate(self) -> float:
        """Requests a second that were accepted."""
        return round(self.round.accepted / self.round.seconds, 1)

    def milliseconds_each(self, seconds: float) -> float:
        return 1000 * seconds / max(1, self.round.accepted)


def take_turn(site: Site, server: Server, seconds: float) -> Turn:
    """Measure one round."""
    before = server.cpu(), postgres_cpu(site)
    came = server.send(seconds)
    time.sleep(_SETTLING_SECONDS)
    return Turn(came, server.cpu() - before[0], postgres_cpu(site) - before[1])


def sum_up(turns: Sequence[Turn]) -> dict[str, Any]:
    """Return medians of the rounds, and all errors."""
    return {
        "per_second": median(turn.rate for turn in turns),
        "rounds": [turn.rate for turn in turns],
        "p50_ms": median(turn.round.p50_ms for turn in turns),
        "p99_ms": median(turn.round.p99_ms for turn in turns),
        "errors": sum(turn.round.errors for turn in turns),
        "cpu_ms": median(turn.milliseconds_each(turn.cpu) for turn in turns),
        "postgresql_ms": median(turn.milliseconds_each(turn.postgres_cpu) for turn in turns),
    }


HEAD = (
    f"  {'':18}{'a second':>10}{'min..max':>13}{'p50 ms':>8}{'p99 ms':>8}{'errors':>7}"
    f"{'CPU ms':>8}{'PostgreSQL':>11}"
)


def line(name: str, found: dict[str, Any]) -> str:
    """Put what `sum_up` returned below `HEAD`."""
    spread = f"{min(found['rounds']):.0f}..{max(found['rounds']):.0f}"
    return (
        f"  {name[-18:]:18}{found['per_second']:>10.0f}{spread:>13}{found['p50_ms']:>8.1f}"
        f"{found['p99_ms']:>8.1f}{found['errors']:>7}{found['cpu_ms']:>8.2f}"
        f"{found['postgresql_ms']:>11.2f}"
    )
