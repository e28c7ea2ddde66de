"""A machine: a root file system that is booted, with its own systemd, under systemd-nspawn.

It shares this machine's network and kernel. What is installed on it does not belong here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from lab.postgres_programs import die_with_parent
from lab.service import children_of

from deploy_test.report import Failed

BOOT_SECONDS = 120
STOP_SECONDS = 150  # more than the longest TimeoutStopSec= of deploy/systemd
COMMAND_SECONDS = 900
REBOOT = 133  # how systemd-nspawn says, with --keep-unit, that it is to be started again
_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PIP_CACHE_DIR": "/var/cache/pip",
}
# Where the way to a package index is not the usual one.
_HANDED_ON = ("PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy")


class Machine:
    """A context: it runs, if it was booted, until the end of it at the latest. For the main
    thread, with which it dies."""

    def __init__(self, root: Path, mounts: Sequence[str]) -> None:
        self.root = root
        self.log = root.with_suffix(".log")  # its console
        self._mounts = mounts
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._environ = _ENVIRON | {
            name: os.environ[name] for name in _HANDED_ON if os.environ.get(name)
        }

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.power_cut()
        # systemd-nspawn leaves it behind.
        with suppress(OSError):
            Path("/run/systemd/nspawn/propagate", self.root.name).rmdir()

    def boot(self) -> None:
        """Return when it has started all that it starts by itself."""
        with self.log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "-D", self.root, *_OPTIONS, *self._mounts],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509  it takes no lock
            )
        deadline = time.monotonic() + BOOT_SECONDS
        while self._state() not in {"running", "degraded"}:
            if time.monotonic() > deadline:
                raise Failed(f"not booted within {BOOT_SECONDS} s; see {self.log}")
            time.sleep(0.2)

    @property
    def leader(self) -> int:
        """The process id, out here, of its systemd; 0 when there is none."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return 0
        return next((pid for pid in children_of(self._nspawn.pid) if _is_init(pid)), 0)

    def run(
        self,
        *command: str,
        check: bool = True,
        seconds: float = COMMAND_SECONDS,
        given: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run it as root inside; CalledProcessError when it fails and `check` is set."""
        environ = [f"{name}={value}" for name, value in self._environ.items()]
        enter = ["nsenter", "-t", str(self.leader), "-a", "env", "-i", *environ]
        return subprocess.run(
            [*enter, *command],
            check=check,
            timeout=seconds,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
        )

    def shell(self, script: str, *, check: bool = True) -> str:
        """What this bash script prints."""
        return self.run("bash", "-euo", "pipefail", "-c", script, check=check).stdout.strip()

    def reboot(self) -> None:
        """As `systemctl reboot` does it."""
        self.run("systemctl", "reboot", check=False)
        status = self._wait_for_end()
        if status != REBOOT:
            raise Failed(f"systemctl reboot: systemd-nspawn ended with {status}; see {self.log}")
        self.boot()

    def power_off(self) -> None:
        """In order."""
        if self.leader:
            self.run("systemctl", "poweroff", check=False)
            self._wait_for_end()

    def power_cut(self) -> None:
        """Every process of it dies at once. (What this machine's kernel holds of its files does
        not: that is what scripts/power-cut tries.)"""
        if leader := self.leader:
            with suppress(ProcessLookupError):
                os.kill(leader, signal.SIGKILL)
            self._wait_for_end()

    def _wait_for_end(self) -> int:
        if self._nspawn is None:
            return 0
        try:
            return self._nspawn.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.kill(self.leader, signal.SIGKILL)
            self._nspawn.wait()
            raise Failed(f"it did not stop within {STOP_SECONDS} s") from None

    def _state(self) -> str:
        """`running` when all is well; `degraded` when a unit has failed."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            raise Failed(f"systemd-nspawn ended while it booted; see {self.log}")
        if not self.leader:
            return "offline"
        with suppress(subprocess.TimeoutExpired):
            asked = self.run("systemctl", "is-system-running", check=False, seconds=10)
            return asked.stdout.strip()
        return "busy"


def _is_init(pid: int) -> bool:
    """It is the first process of a process id namespace."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return any(line.split()[2:] == ["1"] for line in status.splitlines() if "NSpid" in line)
    return False


_OPTIONS = (
    *("--boot", "--register=no", "--keep-unit", "--link-journal=no"),
    *("--console=pipe", "--quiet"),
)
