"""The command `scripts/test-deploy`: its arguments, what must be there first, the table at the end.

What is tried is not known here: see the modules scenario_*.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from deploy_test.lab import Lab
from deploy_test.report import Failed, Report, line
from deploy_test.rootfs import RootFileSystems
from deploy_test.scenario_backup import backup
from deploy_test.scenario_faults import faults, reboot
from deploy_test.scenario_install import install
from deploy_test.scenario_options import options
from deploy_test.scenario_slow import slow
from deploy_test.scenario_uninstall import uninstall
from deploy_test.scenario_units import units
from deploy_test.scenario_upgrade import upgrade
from deploy_test.scenario_upload import upload
from deploy_test.site import PORTS

PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter", "git")
PASSED, FAILED, NOT_RUN = range(3)
# In this order on one machine; `backup` goes on to a second, and `options` has a third.
SCENARIOS: dict[str, Callable[[Lab], None]] = {
    scenario.__name__: scenario
    for scenario in (
        install,
        upload,
        units,
        reboot,
        upgrade,
        faults,
        slow,
        backup,
        uninstall,
        options,
    )
}


class CannotRun(Exception):
    """Nothing can be tried; the message says why."""


def main() -> int:
    """Try what was asked for; the exit status."""
    arguments = _parser().parse_args()
    if arguments.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:10} {inspect.getdoc(scenario)}")
        return PASSED
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report(quiet=arguments.json)
    try:
        _require_what_it_needs()
        _run(arguments, report)
    except (CannotRun, OSError) as error:
        print(f"test-deploy: {error}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        print("interrupted without a verdict", file=sys.stderr)
        return NOT_RUN
    _tell(report, as_json=arguments.json)
    return PASSED if report.passed else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="test-deploy",
        description="Tries deploy/ on Debian machines that are booted for it. Needs root.",
        epilog="Exit status 0: all passed; 1: something did not; 2: it could not run.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=SCENARIOS,
        metavar="NAME",
        help="try this scenario, after what it needs; can be repeated",
    )
    parser.add_argument("--list", action="store_true", help="only tell the scenarios")
    parser.add_argument("--json", action="store_true", help="the steps as JSON, at the end")
    parser.add_argument("--keep", action="store_true", help="leave the machines' files")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where the first root file system and what was downloaded are kept for the next time",
    )
    return parser


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _require_what_it_needs() -> None:
    if os.geteuid() != 0:
        raise CannotRun("it boots machines: run it as root")
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        raise CannotRun(
            f"{', '.join(missing)} not found: apt install debootstrap systemd-container git"
        )
    taken = [port for port in PORTS if _is_taken(port)]
    if taken:
        ports = ", ".join(map(str, taken))
        raise CannotRun(f"the machines share the network of this one, where {ports} is in use")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return True
    return False


def _run(arguments: argparse.Namespace, report: Report) -> None:
    cache = arguments.cache and arguments.cache.absolute()
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="test-deploy-", dir=cache or "/var/tmp"))
    files = RootFileSystems(cache or folder / "cache", folder)
    try:
        if not files.is_made:
            report.say("debootstrap ...")
        files.make()
        with Lab(files, folder, report) as lab:
            for name in arguments.only or SCENARIOS:
                _try(name, lab)
    finally:
        if arguments.keep:
            report.say(f"the machines' files: {folder}")
        else:
            _remove(folder)


def _remove(folder: Path) -> None:
    with suppress(OSError):  # a recorder that was just cut off writes a last line into its log
        shutil.rmtree(folder)
        return
    time.sleep(1)
    shutil.rmtree(folder)


def _try(name: str, lab: Lab) -> None:
    started = time.monotonic()
    try:
        SCENARIOS[name](lab)
    except Failed as error:  # outside of a step: what the scenario needs cannot be had
        with lab.report.step(f"{name}: can be tried"):
            raise Failed(str(error)) from None
    lab.report.say(f"-- {name}: {time.monotonic() - started:.0f} s")


def _tell(report: Report, *, as_json: bool) -> None:
    if as_json:
        facts = {"passed": report.passed, "steps": [step.facts() for step in report.steps]}
        print(json.dumps(facts, indent=2))
        return
    print("\n" + "\n".join(map(line, report.steps)))
    failed = sum(not step.passed for step in report.steps)
    print(f"{len(report.steps)} steps, {failed} failed")
