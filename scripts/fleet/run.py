"""A fleet against a service: recorders live for a while, spools are drained, the service is asked.

Arguments and output do not belong here: see command.py and report.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Protocol
from uuid import UUID

from soak_load import Journal

from fleet.agent import Field, FieldAgent
from fleet.device import Device, devices_for
from fleet.endpoint import FleetError
from fleet.life import Life
from fleet.place import Place
from fleet.plan import CHUNK_BYTES, Plan
from fleet.registry import Registry
from fleet.sound import sounds
from fleet.tally import FleetTally
from fleet.timeline import Timeline
from fleet.verdict import Verdict

STACK_BYTES = 512 * 1024  # of each agent's thread: thousands must fit
DESCRIPTORS = 2  # an agent's at most: a connection, and one that fell silent
SPARE_DESCRIPTORS = 200
DRAIN_SECONDS = 120.0  # for what a normal link has in its spool
LOOK_SECONDS = 0.1  # for a signal


class Stop(Protocol):
    """Asked for, by a signal."""

    asked: bool


@dataclass(frozen=True)
class View:
    """A fleet at one moment."""

    seconds: float
    devices: Sequence[Device]
    tally: FleetTally
    drain_limit: float = 0.0  # seconds, while spools are drained

    @property
    def online(self) -> int:
        return sum(device.online for device in self.devices)

    @property
    def spooled(self) -> int:
        return sum(device.spooled for device in self.devices)


Show = Callable[[View], None]


@dataclass(frozen=True)
class Outcome:
    """What was done, and what came of it."""

    plan: Plan
    own_site: bool
    seconds: float  # till the recorders stopped
    drain_seconds: float
    drain_limit: float
    tally: FleetTally
    verdict: Verdict
    devices: Sequence[Device]
    shops: list[UUID]
    left_open: list[UUID]

    @property
    def stuck(self) -> int:
        """Chunks that were never acknowledged, though their agents went on trying."""
        return self.tally.chunks - len(self.tally.acknowledged)

    @property
    def clean(self) -> bool:
        return self.verdict.holds and not self.stuck


class Fleet:
    """Devices, each with an agent in a thread of its own."""

    def __init__(self, place: Place, registry: Registry, plan: Plan, tally: FleetTally) -> None:
        self.plan, self.tally, self.sounds = plan, tally, sounds()
        self.devices = devices_for(registry.recorders, plan)
        field = Field(place.endpoint, plan, self.sounds, tally)
        self._agents = [
            FieldAgent(device, field, Random(f"{plan.seed}+{number}"))
            for number, device in enumerate(self.devices)
        ]
        # daemon, because a thread may wait a minute for an answer that does not come
        self._threads = [threading.Thread(target=agent.work, daemon=True) for agent in self._agents]
        self._started = time.monotonic()

    def live(self, stop: Stop, show: Show) -> float:
        """Until the time is up, or a stop is asked for; how many seconds it was."""
        self._start_threads()
        self._started = time.monotonic()
        timeline = Timeline()
        Life(self.devices, self.plan, len(self.sounds), timeline=timeline, tally=self.tally)
        while (seconds := self._seconds()) < self.plan.seconds and not stop.asked:
            timeline.run_due()
            show(View(seconds, self.devices, self.tally))
            time.sleep(timeline.seconds_to_next(LOOK_SECONDS))
        return self._seconds()

    def drain(self, show: Show) -> tuple[float, float]:
        """Nothing is recorded any more, nothing goes wrong on purpose, everybody is online. How
        long it took to empty the spools, and how long it might have."""
        limit = self._drain_limit()
        for agent in self._agents:
            agent.fair_weather()
        for device in self.devices:
            device.settle()
        started = time.monotonic()
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() - started > limit:
                break
            show(View(self._seconds(), self.devices, self.tally, limit))
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - started, limit

    def give_up(self) -> None:
        for device in self.devices:
            device.give_up()

    def _drain_limit(self) -> float:
        longest = max((device.spooled for device in self.devices if device.slow), default=0)
        return DRAIN_SECONDS + longest * CHUNK_BYTES / self.plan.slow_bytes_a_second

    def _start_threads(self) -> None:
        _require_descriptors(len(self._threads) * DESCRIPTORS + SPARE_DESCRIPTORS)
        before = threading.stack_size(STACK_BYTES)
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            raise FleetError(
                f"the system grants no {len(self._threads)} threads ({error}): fewer --devices"
            ) from error
        finally:
            threading.stack_size(before)

    def _seconds(self) -> float:
        return time.monotonic() - self._started


def run(
    plan: Plan, at: AbstractContextManager[Place], folder: Path, *, stop: Stop, show: Show
) -> Outcome:
    """Do it all; end early, with a verdict, when a stop is asked for. The folder is for notes.
    FleetError, SiteError, PostgresError, SettingsError. For the main thread, see Site."""
    tally = FleetTally(Journal(folder / "fleet.log"), plan.seed)
    registered = partial(Registry, count=plan.devices, seed=plan.seed)
    with at as place, registered(place.admin, disable=place.lasting) as registry:
        fleet = Fleet(place, registry, plan, tally)
        try:
            seconds = fleet.live(stop, show)
            drained, limit = fleet.drain(show)
        finally:
            fleet.give_up()
        verdict = place.judge(tally, fleet.sounds)
    return Outcome(
        plan,
        not place.lasting,
        seconds,
        drained,
        limit,
        tally,
        verdict,
        fleet.devices,
        shops=list({recorder.point_id for recorder in registry.recorders}),
        left_open=registry.left_open,
    )


def _require_descriptors(needed: int) -> None:
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if soft < needed:
        with suppress(ValueError, OSError):
            setrlimit(RLIMIT_NOFILE, (hard, hard))
    if getrlimit(RLIMIT_NOFILE)[0] < needed:
        raise FleetError(f"this takes {needed} open files: raise `ulimit -n`, or fewer --devices")
