"""A thousand clients that send a kilobyte a second, and recorders beside them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lab.postgres_programs import die_with_parent
from lab.recorder import Recorder

from deploy_test.fleet import Fleet, quantile
from deploy_test.lab import Lab
from deploy_test.report import Step, require
from deploy_test.site import HTTPS, Site

SLOW, GOOD = 1000, 50
CONNECT_SECONDS = 30  # in which the slow ones come, one after the other
SECONDS = 60
RATE = 25.0  # chunks a second, of the good ones together
P99_SECONDS = 1.0
# While the slow ones send: connections to the service, and threads of each of its processes.
CONNECTIONS = THREADS = 60
LOOKS = 100


def slow(lab: Lab) -> None:
    """1,000 clients at 1 kB/s through nginx: the threads stay free, 50 recorders see p99 < 1 s"""
    site = lab.installed_site()
    name = f"slow: {SLOW} clients at 1 kB/s, {GOOD} recorders upload beside them"
    with lab.report.step("slow: the same recorders alone, for comparison") as step:
        alone = lab.fleet(GOOD, rate=RATE)
        _upload(alone, SECONDS / 3, step)
    with lab.report.step(name) as step:
        recorders = lab.recorders(GOOD)
        fleet = lab.fleet(GOOD, rate=RATE)
        lab.evidence.include_unknown(SLOW)
        step.saw(f"before {_threads(site)} threads a process")
        with _slow_clients(site, recorders) as told:
            time.sleep(CONNECT_SECONDS)
            _upload(fleet, SECONDS, step, site)
        step.saw(f"the slow ones: {told}")
        require(not fleet.tally.failed, f"uploads failed: {dict(fleet.tally.failures)}")
        require(told == {"200": SLOW}, "not every slow client got its 200 in the end")
        p99 = quantile(fleet.seconds, 0.99)
        require(p99 < P99_SECONDS, f"p99 is not below {P99_SECONDS} s")


def _upload(fleet: Fleet, seconds: float, step: Step, site: Site | None = None) -> None:
    with fleet.uploading():
        time.sleep(seconds / 2)
        if site is not None:
            _require_free(site, step)
        time.sleep(seconds / 2)
    of_all = fleet.seconds
    step.saw(
        f"{len(fleet.tally.acknowledged)} uploads, {fleet.tally.failed} failed, seconds: "
        f"p50 {quantile(of_all, 0.5):.3f}, p99 {quantile(of_all, 0.99):.3f}, "
        f"max {max(of_all, default=0.0):.3f}"
    )


@contextmanager
def _slow_clients(site: Site, recorders: Sequence[Recorder]) -> Iterator[dict[str, int]]:
    """They come while the context begins, and each sends its chunk to the end, which takes longer
    than what is inside. What they saw, counted, is there when they are through."""
    told: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "deploy_test.slow_clients"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509  it takes no lock
    ) as process:
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(_plan(site, recorders)) + "\n")
                process.stdin.flush()
            yield told
            said, _ = process.communicate(timeout=3 * SECONDS)
        except BaseException:
            process.kill()
            raise
    told |= json.loads(said)


def _plan(site: Site, recorders: Sequence[Recorder]) -> dict[str, Any]:
    return {
        "address": HTTPS,
        "certificate": str(site.root / "etc/ingest-api/tls/fullchain.pem"),
        "clients": SLOW,
        "connect_seconds": CONNECT_SECONDS,
        "seconds": CONNECT_SECONDS + SECONDS,
        "recorders": [_as_json(recorder) for recorder in recorders],
    }


def _as_json(recorder: Recorder) -> dict[str, str]:
    return {name: str(value) for name, value in vars(recorder).items()}


def _require_free(site: Site, step: Step) -> None:
    """The slow ones are all here, and nginx keeps them from the service."""
    threads, (outer, inner) = _threads(site), _connections(site)
    step.saw(
        f"in the middle {threads} threads a process, "
        f"{outer} connections to nginx, {inner} to the service"
    )
    require(outer >= SLOW, f"only {outer} connections are open")
    require(0 < inner < CONNECTIONS, f"{inner} connections to the service, of {CONNECTIONS}")
    require(max(threads) < THREADS, f"{max(threads)} threads in a process, of {THREADS}")


def _threads(site: Site) -> list[int]:
    """Of each process of gunicorn."""
    script = """\
main=$(systemctl show -P MainPID ingest-api)
for pid in $main $(cat /proc/$main/task/$main/children); do
  awk '/^Threads/ {print $2}' /proc/$pid/status
done"""
    return [int(number) for number in site.machine.shell(script).split()]


def _connections(site: Site) -> tuple[int, int]:
    """To nginx, and to the service: the most of many looks, as those may be short."""
    outer = site.machine.shell("ss -Htn state established '( sport = :443 )' | wc -l")
    looks = site.machine.shell(f"""\
for look in $(seq {LOOKS}); do
  awk '$6 == "03" && $8 ~ /ingest-api.sock$/' /proc/net/unix | wc -l
  sleep 0.02
done""")
    return int(outer), max(map(int, looks.split()))
