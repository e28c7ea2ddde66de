"""The command `scripts/simulate-fleet`: its arguments, its signals, its exit status.

What a fleet does is not known here: see run.py.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
from lab.postgres import PostgresError
from lab.service import SiteError
from option_types import above_zero, at_least, share

from fleet.endpoint import Endpoint, FleetError
from fleet.place import own_site, running_service
from fleet.plan import CHUNK_BYTES, TROUBLES, Plan, Troubles
from fleet.report import FleetProgress, facts, table
from fleet.run import Outcome, run
from ingest_api.server.main import read_dotenv_file
from ingest_api.settings import SettingsError

SPARE_BYTES = 1024**3
CLEAN, NOT_CLEAN, NOT_RUN = range(3)

_HELP = {
    "drop_outs": "of the recorders go offline each minute, for 20 s to 3 min",
    "outages": "of the shops go offline at once, every few minutes",
    "hang_ups": "of the uploads break in mid-body",
    "lost_answers": "of the answers get lost, so that the chunk is sent again",
    "slow_links": "of the recorders send 64 kB/s only",
    "wrong_clocks": "of the recorders are hours off, or in 1970 until NTP sets them",
    "reboots": "of the recorders lose power each minute; their spool is on disk",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a fleet; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        folder, outcome = _simulate(_plan(options), options.url)
    except (FleetError, SettingsError, SiteError, PostgresError, psycopg.Error, OSError) as error:
        notes = getattr(error, "__notes__", [])
        _complain(f"the fleet could not run: {error}", *notes)
        return NOT_RUN
    except KeyboardInterrupt as error:
        _complain("interrupted without a verdict", *getattr(error, "__notes__", []))
        return NOT_RUN
    found = facts(outcome, folder, kept=not outcome.clean)
    print(json.dumps(found) if options.json else table(found))
    if outcome.clean:
        shutil.rmtree(folder)
    if not outcome.tally.acknowledged:
        _complain("nothing was acknowledged, so this says nothing")
        return NOT_RUN
    return CLEAN if outcome.clean else NOT_CLEAN


def _simulate(plan: Plan, url: Endpoint | None) -> tuple[Path, Outcome]:
    if url is None:
        _require_space(plan)
    else:
        read_dotenv_file()  # as scripts/serve does
    folder, progress = Path(tempfile.mkdtemp(prefix="fleet-")), FleetProgress()
    place = own_site(folder) if url is None else running_service(url)
    try:
        outcome = run(plan, place, folder, stop=StopSignal(), show=progress)
    except BaseException:
        progress.end()
        _leave(folder)
        raise
    progress.end()
    return folder, outcome


def _leave(folder: Path) -> None:
    """With what there is to see in it."""
    try:
        folder.rmdir()
    except OSError:
        _complain(f"what there is stays in {folder}")


def _complain(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate-fleet",
        description="Run recorders as they behave in the field, in real time, against a service\n"
        "of their own or the one at --url; then ask it whether all that it acknowledged is there.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(parser.add_argument)
    return parser


def _add_options(add: Callable[..., Any]) -> None:
    add("--devices", type=at_least(1), default=Plan.devices, metavar="N",
        help="recorders (default: %(default)s)")  # fmt: skip
    add("--minutes", type=above_zero, default=2.0, metavar="N",
        help="how long they record (default: 2)")  # fmt: skip
    add("--url", type=_endpoint, metavar="URL",
        help="of a running service (default: one of its own, in a throw-away folder)")  # fmt: skip
    add("--every", type=above_zero, default=Plan.every, metavar="SECONDS",
        help="from one chunk to the next (default: %(default)g). What takes or happens within a"
        " minute below shrinks and grows with it")  # fmt: skip
    for name in TROUBLES:
        text = f"{_HELP[name]} (default: {getattr(Troubles, name):g})"
        add(f"--{name.replace('_', '-')}", type=share, metavar="SHARE", help=text)
    add("--calm", action="store_true", help="0 for all of these that are not given")
    add("--seed", type=int, metavar="N", help="of all that is random (default: a random one)")
    add("--json", action="store_true", help="print the verdict as JSON")


_EPILOG = """\
A share is a number from 0 to 1; 0 turns that trouble off. At the end nothing is recorded any more,
everybody is online, nothing is broken on purpose, and the spools have to get empty.

With --url: ADMIN_TOKEN or ADMIN_TOKEN_FILE in the environment (or .env) is the service's; without
either its published default, on this machine only. The fleet registers devices and disables them at
the end; they and their chunks stay. With INTERNAL_TOKEN or INTERNAL_TOKEN_FILE the verdict asks for
each chunk, else some are sent again.

Exit status 0: clean. 1: not clean, and the folder is kept. 2: it could not run.
Ctrl-C: the verdict on what was done so far; once more: none."""


def _endpoint(value: str) -> Endpoint:
    try:
        return Endpoint.from_url(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _plan(options: argparse.Namespace) -> Plan:
    given = {name: getattr(options, name) for name in TROUBLES}
    usual = {name: 0.0 if options.calm else getattr(Troubles, name) for name in TROUBLES}
    return Plan(
        seconds=60 * options.minutes,
        every=options.every,
        devices=options.devices,
        troubles=Troubles(
            **{name: usual[name] if given[name] is None else given[name] for name in TROUBLES}
        ),
        seed=random.randrange(2**32) if options.seed is None else options.seed,
    )


def _require_space(plan: Plan) -> None:
    folder = tempfile.gettempdir()
    needed, free = plan.chunks * CHUNK_BYTES + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise FleetError(
            f"{folder} has {free} bytes free, and this may take {needed}: choose fewer --minutes or"
            " --devices, or another folder (TMPDIR)"
        )


class StopSignal:
    """The first Ctrl-C, SIGTERM or SIGHUP asks for a stop; the second one interrupts. (To set a
    threading.Event in a handler can deadlock.)"""

    asked = False

    def __init__(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._handle)

    def _handle(self, _signum: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
