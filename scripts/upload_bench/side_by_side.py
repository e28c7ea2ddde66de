"""Uploads as fast as they are answered: to the service, to bare processes under the same promise,
to nginx and to SeaweedFS, in turn, on one machine and with the same bytes.

Who they are: limit.py, service.py, webdav.py, seaweedfs.py. What the rounds add up to: figures.py.
How it is told: report.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_tools.machine import (
    SERVING,
    SETTLING_SECONDS,
    load_cpu,
    loopback_mtu,
    peak_rss_bytes,
    postgres_cpu,
    pss_bytes,
    reset_peak,
)
from bench_tools.programs import generator
from lab.recorder import Recorder
from lab.service import Site, SiteError
from option_types import above_zero, at_least

from upload_bench import figures, report
from upload_bench.contender import Contender
from upload_bench.figures import Cpu, Turn
from upload_bench.limit import limit
from upload_bench.recorders import site_recorders
from upload_bench.seaweedfs import seaweedfs
from upload_bench.service import Service
from upload_bench.versions import versions
from upload_bench.webdav import webdav

LIMITS = (4, 8)  # processes
FREE_BYTES = 2**30
BYTES_A_SECOND = 600_000_000  # more than any of them writes
tell, plot = report.tell, report.plot


@dataclass(frozen=True)
class Plan:
    """How many, and how long."""

    devices: int = 200  # so that the first round lets every process know every folder
    connections: int = 16
    rounds: int = 5
    seconds: float = 5.0
    serving: int = SERVING  # gunicorn's workers
    mtu: int = 1500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this part."""
    group = parser.add_argument_group("side by side")
    add, count = group.add_argument, at_least(1)
    text = "that upload in turn (default: %(default)s)"
    add("--devices", type=count, default=Plan.devices, metavar="N", help=text)
    text = "over which the uploads come (default: %(default)s)"
    add("--connections", type=count, default=Plan.connections, metavar="N", help=text)
    text = "of which the median counts, after one that does not (default: %(default)s)"
    add("--rounds", type=count, default=Plan.rounds, metavar="N", help=text)
    text = "the length of one for each (default: %(default)g; wrk takes whole ones)"
    add("--seconds", type=above_zero, default=Plan.seconds, metavar="N", help=text)


def run(folder: Path, plan: Plan, show: Callable[[str], None]) -> dict[str, Any]:
    """Start all of them, measure in turn; what was found. SiteError."""
    _require_space(folder, plan)
    with (
        Site(folder, workers=plan.serving) as site,
        loopback_mtu(plan.mtu) as mtu,
        ExitStack() as stack,
    ):
        site.wait_for_workers()
        show(f"side by side: {plan.devices} devices for each are registered")
        contenders = _contenders(site, plan, stack)
        turns = _measure(site, contenders, plan, show)
        seen = vars(plan) | {"mtu": mtu, "versions": versions(site)}
    missing = {name: how for name, how in report.MISSING.items() if name not in turns}
    return seen | {"generator": generator(), "missing": missing} | figures.add_up(turns)


def _require_space(folder: Path, plan: Plan) -> None:
    wanted = FREE_BYTES + int(plan.seconds * BYTES_A_SECOND)
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise SiteError(
            f"{folder} has {free / 1e9:.1f} GB free, and a round may need {wanted / 1e9:.1f}: name"
            " another place with --folder, or take fewer --seconds"
        )


def _contenders(site: Site, plan: Plan, stack: ExitStack) -> dict[str, Contender]:
    """Those that are installed, in the order of their turns. Each has devices of its own."""

    def devices() -> list[Recorder]:
        return site_recorders(site, plan.devices)

    folder = site.folder
    found: dict[str, Contender | None] = {}
    for count in LIMITS:
        name = f"limit-{count}"
        found[name] = stack.enter_context(limit(site, devices(), folder / name, count))
    found["service"] = Service(site, devices(), folder, plan.connections)
    for name, others in (("nginx", webdav), ("seaweedfs", seaweedfs)):
        found[name] = stack.enter_context(others(devices(), folder / name, plan.connections))
    return {name: contender for name, contender in found.items() if contender is not None}


def _measure(
    site: Site, contenders: dict[str, Contender], plan: Plan, show: Callable[[str], None]
) -> dict[str, list[Turn]]:
    """In turn, because machines are noisy. The first round is not counted: in it the devices get
    their folders, and caches are filled."""
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    for number in range(plan.rounds + 1):
        for name, contender in contenders.items():
            _settle(site)
            turn = _take_turn(site, contender, plan.seconds)
            site.require_running()
            rate = turn.round.uploads / turn.round.seconds
            what = f"round {number} of {plan.rounds}" if number else "warm-up"
            show(f"side by side: {what}: {name} {rate:.0f}/s")
            if number or turn.faults or turn.round.errors:
                turns[name].append(turn)
    return turns


def _take_turn(site: Site, contender: Contender, seconds: float) -> Turn:
    pids = contender.pids()
    reset_peak(pids)
    before = _cpu(site, contender)
    came = contender.send(seconds)
    peak, pss = peak_rss_bytes(pids), pss_bytes(pids)
    time.sleep(SETTLING_SECONDS)
    used = _cpu(site, contender) - before
    return Turn(came, used, peak, pss, faults=tuple(contender.clear(came)))


def _cpu(site: Site, contender: Contender) -> Cpu:
    return Cpu(contender.cpu(), postgres_cpu(site), load_cpu())


def _settle(site: Site) -> None:
    """What one has left to be written must not be charged to the next."""
    os.sync()
    with site.connect() as connection:
        connection.execute("CHECKPOINT")
