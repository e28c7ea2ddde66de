"""Root file systems of Debian 12: made once with debootstrap, and copied for each machine.

What is installed into them is for those who boot them.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,iproute2,python3,python3-venv,ca-certificates"
MIRROR = "http://deb.debian.org"
_SOURCES = f"""\
deb {MIRROR}/debian {SUITE} main
deb {MIRROR}/debian {SUITE}-updates main
deb {MIRROR}/debian-security {SUITE}-security main
"""
# Whom this machine trusts, because its network may need that.
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP = "[global]\ncert = /etc/ssl/of-the-host.pem\n"


class RootFileSystems:
    """Those of one run in `folder`, from a first one in `cache`, where also what was downloaded
    is kept."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self._base = cache / SUITE
        self._folder = folder
        self._downloads = {
            cache / "apt": "/var/cache/apt/archives",
            cache / "pip": "/var/cache/pip",
        }

    @property
    def is_made(self) -> bool:
        return self._base.exists()

    def make(self) -> None:
        """Bootstrap the first one, if it is not there yet."""
        if self.is_made:
            return
        unfinished = self._base.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o755)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, unfinished],
            check=True,
            capture_output=True,
            text=True,
        )
        (unfinished / "etc/apt/sources.list").write_text(_SOURCES)
        unfinished.rename(self._base)

    def copy(self, name: str) -> Path:
        """A fresh one."""
        target = self._folder / name
        subprocess.run(["cp", "-a", "--reflink=auto", self._base, target], check=True)
        shutil.copy(_CERTIFICATES, target / "etc/ssl/of-the-host.pem")
        (target / "etc/pip.conf").write_text(_PIP)
        return target

    def mounts(self) -> list[str]:
        """What a machine gets from this one, as options of systemd-nspawn."""
        for folder in self._downloads:
            folder.mkdir(parents=True, exist_ok=True)
        shared = [f"--bind={here}:{there}" for here, there in self._downloads.items()]
        return [*shared, "--bind-ro=/etc/resolv.conf"]
