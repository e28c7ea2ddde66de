"""How a fleet is told: the progress line, the table, the JSON document. Reads an outcome and
changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from soak_report import ProgressLine

from fleet.device import Device
from fleet.plan import TROUBLES
from fleet.run import Outcome, View
from fleet.tally import FleetTally, quantile

SECOND = 1.0


class FleetProgress:
    """Once a second on a terminal, and every 10 s elsewhere."""

    def __init__(self) -> None:
        self._line = ProgressLine()
        self._next = 0.0

    def __call__(self, view: View) -> None:
        if view.seconds >= self._next:
            self._line.show(view.seconds, lambda: _progress(view))
            self._next = view.seconds + SECOND

    def end(self) -> None:
        """Leave the line as it is."""
        self._line.end()


def _progress(view: View) -> str:
    minutes, rest = divmod(int(view.seconds), 60)
    tally, recent = view.tally, view.tally.recent_seconds()
    draining = f"  draining, {view.drain_limit:.0f} s at most" if view.drain_limit else ""
    return (
        f"{minutes:02}:{rest:02}{draining}  online {view.online}/{len(view.devices)}"
        f"  recorded {tally.chunks}  delivered {len(tally.acknowledged)}"
        f"  in spools {view.spooled}  again {tally.resent} (known {tally.duplicates})"
        f"  failed {tally.failed} {_counts(tally.failed_by_kind())}".rstrip()
        + f"  last minute p50 {_ms(recent, 0.5)} p99 {_ms(recent, 0.99)} ms"
    )


def facts(outcome: Outcome, folder: Path, *, kept: bool) -> dict[str, Any]:
    """The outcome as a JSON document. It names the folder only if it is to be kept."""
    plan = outcome.plan
    return {
        "clean": outcome.clean,
        "seconds": round(outcome.seconds, 1),
        "devices": plan.devices,
        "every": plan.every,
        "seed": plan.seed,
        "troubles": {name: getattr(plan.troubles, name) for name in TROUBLES},
        "slow_links": sum(device.slow for device in outcome.devices),
        "wrong_clocks": _clocks(outcome.devices),
        **_happened(outcome.tally),
        "longest_spool": max(device.longest_spool for device in outcome.devices),
        "drain_seconds": round(outcome.drain_seconds, 1),
        "drain_limit_seconds": round(outcome.drain_limit, 1),
        "stuck": outcome.stuck,
        **vars(outcome.verdict),
        "left_behind": None if outcome.own_site else _left_behind(outcome),
        "folder": str(folder) if kept else None,
    }


def _happened(tally: FleetTally) -> dict[str, Any]:
    """What the recorders went through and saw."""
    return {
        "events": dict(sorted(tally.events.items())),
        "recorded": tally.chunks,
        "acknowledged": len(tally.acknowledged),
        "sent": tally.sent,
        "resent": tally.resent,
        "duplicates": tally.duplicates,
        "hung_up": tally.hung_up,
        "failed": tally.failed,
        "failures": dict(tally.failed_by_kind()),
        "milliseconds": _latency(tally.seconds()),
        "slow_milliseconds": _latency(tally.seconds(slow=True)),
    }


def _clocks(devices: Sequence[Device]) -> Counter[str]:
    """How many are wrong in which way."""
    return Counter(device.clock.fault.value for device in devices if device.clock.fault)


def _left_behind(outcome: Outcome) -> dict[str, Any]:
    """What stays at a service that goes on."""
    receipts = outcome.tally.acknowledged.values()
    return {
        "devices": outcome.plan.devices,
        "devices_not_disabled": list(map(str, outcome.left_open)),
        "chunks": len(receipts),
        "bytes": sum(receipt.size for receipt in receipts),
        "points": sorted(map(str, outcome.shops)),
    }


def table(facts: dict[str, Any]) -> str:
    """The facts for people."""
    title = "{seconds} s, {devices} recorders, a chunk every {every:g} s, seed {seed}"
    return "\n".join(
        (
            title.format_map(facts),
            *(f"  {name:18}{value:>10}  {remark}".rstrip() for name, value, remark in _rows(facts)),
            *(f"  asked: {sentence}" for sentence in facts["asked"]),
            *facts["examples"],
            *_farewell(facts),
            "CLEAN" if facts["clean"] else "NOT CLEAN",
        )
    )


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, object, str]]:
    quick, slow = facts["milliseconds"], facts["slow_milliseconds"]
    clocks = _counts(facts["wrong_clocks"])
    yield "slow links", facts["slow_links"], "recorders"
    yield "wrong clocks", sum(facts["wrong_clocks"].values()), f"recorders: {clocks}"
    yield "recorded", facts["recorded"], "chunks"
    yield "went through", sum(facts["events"].values()), _counts(facts["events"])
    yield "uploads sent", facts["sent"], f"{facts['hung_up']} broken on purpose by their client"
    yield "sent again", facts["resent"], f"{facts['duplicates']} of them were known already"
    yield "failed", facts["failed"], _counts(facts["failures"])
    yield "took", quick["p50"], f"ms in the median, p99 {quick['p99']}, the longest {quick['max']}"
    if slow["uploads"]:
        yield "took slowly", slow["p50"], f"ms, over a slow link; {slow['uploads']} uploads"
    yield "longest spool", facts["longest_spool"], "chunks of one recorder"
    limit = f"seconds for the spools at the end, of {facts['drain_limit_seconds']} allowed"
    yield "draining took", facts["drain_seconds"], limit
    yield "acknowledged", facts["acknowledged"], "chunks that got their 200"
    yield "stuck", facts["stuck"], "chunks that never got their 200: must be 0"
    yield "lost", facts["lost"], "acknowledged, but not there or not the same: must be 0"
    yield "double", facts["double"], "stored twice: must be 0"
    yield "damaged", facts["damaged"], "without their file, or with other bytes: must be 0"
    yield "from nowhere", facts["from_nowhere"], "stored, and no recorder sent it: must be 0"
    yield "wrong", facts["wrong"], "answers or findings that cannot be: must be 0"
    yield "unseen", facts["unseen"], "recorders whose last_seen_at is too old: must be 0"


def _farewell(facts: Mapping[str, Any]) -> Iterator[str]:
    if left := facts["left_behind"]:
        yield (
            f"  left behind: {left['devices']} devices, {left['chunks']} chunks with"
            f" {left['bytes'] // 1_000_000} MB, in {len(left['points'])} points. Their ids begin"
            " with f1ee7; --json lists the points."
        )
        opened = left["devices_not_disabled"]
        yield f"  NOT DISABLED: {', '.join(opened)}" if opened else "  The devices are disabled."
    if facts["folder"]:
        yield f"  kept: {facts['folder']}"


def _latency(seconds: Sequence[float]) -> dict[str, int]:
    parts = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {"uploads": len(seconds)} | {name: _ms(seconds, part) for name, part in parts.items()}


def _ms(seconds: Sequence[float], share: float) -> int:
    return round(1000 * quantile(seconds, share))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())
