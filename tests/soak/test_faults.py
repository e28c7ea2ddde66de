"""Devices upload while the service and its PostgreSQL are killed, restarted and frozen at random.

Environment: SOAK_MINUTES (1), SOAK_DEVICES (50), SOAK_RATE (30 chunks a second, all together),
SOAK_SEED (of the order of the faults; a random one).

A kill is no power cut: what the kernel has buffered survives it. That is the subject of
tests/faults/test_power_cut.py and test_power_cut_device.py.
"""

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

from lab.service import Site
from soak.faults import FAULTS, Faults
from support.ledger import Ledger, audit
from support.load import Load

SECONDS = 60 * float(os.environ.get("SOAK_MINUTES", "1"))
DEVICES = int(os.environ.get("SOAK_DEVICES", "50"))
RATE = float(os.environ.get("SOAK_RATE", "30"))
SEED = int(os.environ.get("SOAK_SEED", random.randrange(10**6)))
SERVER_PROCESSES = 4


def _soak(
    folder: Path, names: Sequence[str], *, every: float, clumsiness: float
) -> tuple[Ledger, Faults]:
    """Run load and faults, then hold what was acknowledged against rows and files."""
    print(f"SOAK_SEED={SEED}")
    with Site(folder, workers=SERVER_PROCESSES) as site:
        faults = Faults(site, names, SEED)
        recorders = [site.new_recorder() for _ in range(DEVICES)]
        load = Load(recorders, site.address, rate=RATE, clumsiness=clumsiness)
        with load.running():
            _strike(site, faults, every)
            site.wait_for_thaw()
        # What it has acknowledged must not depend on what it would still do.
        site.kill_service()
        found = audit(load.ledger, site.database_url, site.storage)
        print(
            f"{load.ledger.sent} sent, {len(load.ledger.receipts)} acknowledged, {found.rows} rows"
        )
        print(f"longest silence {load.ledger.longest_silence:.1f} s, {dict(load.ledger.failures)}")
        print(f"{load.ledger.duplicates} known already, faults {dict(faults.counts)}")
    assert not found.problems, found
    assert load.ledger.pending == 0, "chunks that never got their 200"
    assert len(load.ledger.receipts) > RATE * SECONDS / 4
    return load.ledger, faults


def _strike(site: Site, faults: Faults, every: float) -> None:
    """Strike until the time is up and each fault has happened at least once."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline or not faults.complete:
        time.sleep(every)
        site.require_running()
        faults.strike()


def test_nothing_is_lost_or_double_whatever_dies(tmp_path: Path) -> None:
    ledger, _ = _soak(tmp_path, list(FAULTS), every=3, clumsiness=0.05)
    assert ledger.failures["HungUp"]
    assert ledger.failures.total() > ledger.failures["HungUp"]
    assert ledger.duplicates


def test_no_upload_fails_while_server_processes_are_replaced(tmp_path: Path) -> None:
    ledger, faults = _soak(tmp_path, ["reload"], every=2, clumsiness=0)
    assert faults.counts["reload"] > 1
    assert ledger.failures == {}
