"""A fleet as in the field: drop-outs, lost answers, slow links, wrong clocks, reboots, outages.
In the end everybody is online, and the spools must drain.

Environment: FLEET_DEVICES (30), FLEET_MINUTES (2), FLEET_PERIOD (10 s from chunk to chunk; 60 in
the field), FLEET_SEED (a random one).
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Any

import requests
from lab.service import Site
from soak.agent import FieldAgent
from soak.device import Device, Plan, devices_for
from soak.life import Life
from support.ledger import Ledger, audit

PLAN = Plan(
    devices=int(os.environ.get("FLEET_DEVICES", "30")),
    seconds=60 * float(os.environ.get("FLEET_MINUTES", "2")),
    period=float(os.environ.get("FLEET_PERIOD", "10")),
    seed=int(os.environ.get("FLEET_SEED", random.randrange(10**6))),
)
DRAIN_SECONDS = 180
STACK_BYTES = 512 * 1024  # of each agent's thread: thousands must fit
FSCK = ("fsck", "--checksums", "--grace=150s", "--json")  # the shortest grace that it takes


def _live(site: Site, devices: Sequence[Device], ledger: Ledger) -> Counter[str]:
    """Let the fleet live and then drain its spools; return what happened to it."""
    events: list[str] = []
    agents = [
        FieldAgent(device, site.address, PLAN, ledger, happened=events.append) for device in devices
    ]
    threads = [threading.Thread(target=agent.work, daemon=True) for agent in agents]
    _start(threads)
    Life(devices, PLAN, recorded=ledger.recorded, happened=events.append).run(PLAN.seconds)
    for agent in agents:
        agent.fair_weather()
    for device in devices:
        device.settle()
    deadline = time.monotonic() + DRAIN_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return Counter(events)


def _start(threads: Sequence[threading.Thread]) -> None:
    _, most = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (most, most))
    before = threading.stack_size(STACK_BYTES)
    for thread in threads:
        thread.start()
    threading.stack_size(before)


def _flask_ingest(site: Site, *arguments: str) -> list[Any]:
    """Return the lines of JSON that a command prints."""
    command = [sys.executable, "-m", "flask", "ingest", *arguments]
    done = subprocess.run(
        command, env=site.environ(), cwd=site.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_nothing_is_lost_whatever_the_devices_go_through(tmp_path: Path) -> None:
    print(PLAN)
    ledger = Ledger()
    with Site(tmp_path, workers=3) as site:
        devices = devices_for([site.new_recorder() for _ in range(PLAN.devices)], PLAN)
        events = _live(site, devices, ledger)
        print(f"{ledger.sent} sent, {len(ledger.receipts)} acknowledged, {dict(events)}")
        print(f"{ledger.duplicates} known already, {dict(ledger.failures)}")
        assert ledger.pending == 0, "chunks that are still in a spool"
        [checked] = _flask_ingest(site, *FSCK)  # the summary, and no finding
        [queue] = _flask_ingest(site, "queue", "--json")
        health = requests.get(f"http://127.0.0.1:{site.address[1]}/health", timeout=10)
        assert health.status_code == 200
        # What it has acknowledged must not depend on what it would still do.
        site.kill_service()
        found = audit(ledger, site.database_url, site.storage)
    assert not found.problems, found
    assert found.rows == checked["summary"]["rows"] == sum(queue["states"].values())
    assert max(device.longest_spool for device in devices) > 1
    assert ledger.duplicates
    assert events.keys() >= {
        *("drop-out", "outage", "hang-up", "lost answer", "reboot"),
        "clock set by NTP",
    }
    assert set(ledger.failures) <= {"HungUp", "ConnectionResetError", "RemoteDisconnected"}
