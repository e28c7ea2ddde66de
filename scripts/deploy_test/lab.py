"""What the scenarios share: the machine that runs, what was uploaded to it, and the next machine.

What is tried does not belong here.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from lab.recorder import Recorder

from deploy_test.evidence import Evidence
from deploy_test.fleet import Fleet
from deploy_test.machine import Machine
from deploy_test.report import Report
from deploy_test.rootfs import RootFileSystems
from deploy_test.site import HTTPS, Site

RECORDERS = 20


class Lab:
    """A context: nothing that it started outlives it."""

    def __init__(self, files: RootFileSystems, folder: Path, report: Report) -> None:
        self.report = report
        self.folder = folder
        self.evidence = Evidence()
        self._files = files
        self._site: Site | None = None
        self._machines = 0
        self._stack = ExitStack()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def fresh_site(self) -> Site:
        """A machine that was never used, booted, with a checkout; the one before is switched off:
        they would share their ports."""
        self.leave_site()
        self._machines += 1
        root = self._files.copy(f"test-deploy-{self._machines}")
        machine = self._stack.enter_context(Machine(root, self._files.mounts()))
        self._site = Site(machine)
        started = time.monotonic()
        machine.boot()
        self.report.say(f"machine {self._machines} booted in {time.monotonic() - started:.0f} s")
        self._site.bring_checkout()
        return self._site

    def leave_site(self) -> None:
        """What comes next gets a machine that was never used."""
        if self._site is not None:
            self._site.machine.power_off()
        self._site = None

    def installed_site(self) -> Site:
        """The machine that runs, with the service on it."""
        site = self._site or self.fresh_site()
        if not site.is_installed:
            self.report.say("installing ...")
            site.install("--with-redis")
            site.let_root_look()
        site.wait_until_healthy()
        return site

    def recorders(self, number: int = RECORDERS) -> list[Recorder]:
        """New ones."""
        site = self.installed_site()
        return [site.new_recorder() for _ in range(number)]

    def fleet(self, number: int = RECORDERS, *, rate: float = 20.0) -> Fleet:
        """New recorders, whose uploads count as evidence."""
        recorders = self.recorders(number)
        tls = self.installed_site().tls
        fleet = Fleet(recorders, HTTPS, tls, self.folder / "uploads.log", rate=rate)
        self.evidence.include(fleet)
        return fleet
