"""A soak: load and faults for a while, then the verdict.

What the load does is in soak_load.py, what is broken in soak_faults.py, what must be true in the
end in soak_verdict.py. Arguments and output do not belong here: see soak_command.py.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.service import Site
from soak_faults import FAULTS, GRACEFUL, Faults
from soak_load import Habits, Journal, Load, Tally
from soak_verdict import Verdict, judge


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    seconds: float
    faults: tuple[str, ...] = tuple(FAULTS)
    every: float = 3.0  # seconds from the end of a fault to the next
    devices: int = 50
    habits: Habits = field(default_factory=Habits)
    workers: int = 4
    seed: int = 0

    @property
    def failures_allowed(self) -> bool:
        """Only graceful faults are no excuse for a failed upload."""
        return not GRACEFUL.issuperset(self.faults)


@dataclass(frozen=True)
class Outcome:
    """What was done, and what came of it."""

    plan: Plan
    seconds: float
    faults: Counter[str]
    tally: Tally
    verdict: Verdict

    @property
    def stuck(self) -> int:
        """Chunks that were never acknowledged, though their agents went on trying."""
        return self.tally.chunks - self.verdict.acknowledged

    @property
    def clean(self) -> bool:
        if self.tally.failed and not self.plan.failures_allowed:
            return False
        return self.verdict.holds and not self.stuck


Show = Callable[[float, Tally, Counter[str]], None]
"""Told once a second: the seconds since the start, what the clients saw, the faults so far."""


def run(
    plan: Plan, folder: Path, *, stop: threading.Event | None = None, show: Show | None = None
) -> Outcome:
    """Do it all inside `folder`, which is empty; end early, with a verdict, when `stop` is set.
    SiteError, PostgresError. For the main thread, see Site."""
    journal = Journal(folder / "soak.log")
    with Site(folder, workers=plan.workers) as site:
        tally, faults = Tally(journal), Faults(site, plan.faults, plan.seed)
        recorders = [site.new_recorder() for _ in range(plan.devices)]
        load = Load(recorders, site.address, tally, plan.habits)
        started = time.monotonic()
        with _shown(show, tally, faults.counts):
            load.start()
            try:
                _strike(plan, site, faults, journal, stop or threading.Event())
                site.wait_for_thaw()
                load.finish()
            finally:
                load.switch_off()
        seconds = time.monotonic() - started
        # What it has acknowledged must not depend on what it would still do.
        site.kill_service()
        in_hand = tally.chunks - len(tally.acknowledged)
        verdict = judge(site.database_url, site.storage, tally.acknowledged, in_hand)
    return Outcome(plan, seconds, faults.counts, tally, verdict)


def _strike(
    plan: Plan, site: Site, faults: Faults, journal: Journal, stop: threading.Event
) -> None:
    """Faults until the time is up and each has happened at least once."""
    deadline = time.monotonic() + plan.seconds
    if not plan.faults:
        stop.wait(plan.seconds)
        return
    while not stop.wait(plan.every):
        if time.monotonic() > deadline and faults.complete:
            return
        site.require_running()
        began = time.monotonic()
        name = faults.strike()
        journal.write(f"fault   {name}, took {time.monotonic() - began:.3f} s")


@contextmanager
def _shown(show: Show | None, tally: Tally, faults: Counter[str]) -> Iterator[None]:
    """Call `show` once a second, from a thread of its own: a fault may take a while."""
    ended, started = threading.Event(), time.monotonic()

    def watch() -> None:
        while show and not ended.wait(1):
            show(time.monotonic() - started, tally, faults)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
