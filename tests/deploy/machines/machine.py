"""A machine: a root file system that is booted, with its own systemd, under systemd-nspawn.

It shares the network and the kernel of this one, so only one machine runs at a time.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lab.postgres_programs import die_with_parent
from lab.service import children_of

BOOT_SECONDS = 120
STOP_SECONDS = 150  # more than the longest TimeoutStopSec= of deploy/systemd
COMMAND_SECONDS = 900
REBOOT = 133  # with --keep-unit, the status with which systemd-nspawn asks to be started again
_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PIP_CACHE_DIR": "/var/cache/pip",
}
# Set where a package index is not reached in the usual way.
_HANDED_ON = ("PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy")
_OPTIONS = (
    *("--boot", "--register=no", "--keep-unit", "--link-journal=no"),
    *("--console=pipe", "--quiet"),
)


class Machine:
    """For the main thread, with which the machine dies."""

    def __init__(self, root: Path, mounts: Sequence[str]) -> None:
        self.root = root
        self.console = root.with_suffix(".log")
        self._mounts = mounts
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._environ = _ENVIRON | {
            name: os.environ[name] for name in _HANDED_ON if os.environ.get(name)
        }

    def boot(self) -> None:
        """Return when it has started everything that it starts by itself."""
        with self.console.open("ab") as log:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "-D", self.root, *_OPTIONS, *self._mounts],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        deadline = time.monotonic() + BOOT_SECONDS
        while self._state() not in {"running", "degraded"}:
            assert self._nspawn.poll() is None, self.console.read_text(errors="replace")
            assert time.monotonic() < deadline, self.console.read_text(errors="replace")
            time.sleep(0.2)

    @property
    def leader(self) -> int:
        """The process id of its systemd, as seen from outside; 0 when it is off."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return 0
        return next((pid for pid in children_of(self._nspawn.pid) if _is_init(pid)), 0)

    def run(
        self, *command: str, check: bool = True, seconds: float = COMMAND_SECONDS, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root; AssertionError when it fails, unless `check` is False."""
        environ = [f"{name}={value}" for name, value in self._environ.items()]
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-a", "env", "-i", *environ, *command],
            timeout=seconds,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert not check or done.returncode == 0, f"{command[-1]}: {done.stdout}{done.stderr}"
        return done

    def shell(self, script: str, *, check: bool = True) -> str:
        """Return what this bash script prints."""
        return self.run("bash", "-euo", "pipefail", "-c", script, check=check).stdout.strip()

    def reboot(self) -> None:
        """Reboot as `systemctl reboot` does."""
        self.run("systemctl", "reboot", check=False)
        assert self._wait_for_end() == REBOOT
        self.boot()

    def power_off(self) -> None:
        """Shut down in order."""
        if self.leader:
            self.run("systemctl", "poweroff", check=False)
            self._wait_for_end()
        with suppress(OSError):  # systemd-nspawn leaves it behind
            Path("/run/systemd/nspawn/propagate", self.root.name).rmdir()

    def power_cut(self) -> None:
        """Kill every process at once. What this machine's kernel holds of its files survives."""
        if leader := self.leader:
            with suppress(ProcessLookupError):
                os.kill(leader, signal.SIGKILL)
            self._wait_for_end()

    def _wait_for_end(self) -> int:
        assert self._nspawn
        try:
            return self._nspawn.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.kill(self.leader, signal.SIGKILL)
            self._nspawn.wait()
            raise AssertionError(f"it did not stop within {STOP_SECONDS} s") from None

    def _state(self) -> str:
        """Return `running` when all is well, `degraded` when a unit has failed."""
        if not self.leader:
            return "offline"
        with suppress(subprocess.TimeoutExpired):
            return self.run(
                "systemctl", "is-system-running", check=False, seconds=10
            ).stdout.strip()
        return "busy"


def _is_init(pid: int) -> bool:
    """Whether it is the first process of a process id namespace."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return any(line.split()[2:] == ["1"] for line in lines if line.startswith("NSpid"))
    return False
