"""Root file systems of Debian 12: made once with debootstrap, and copied for each machine."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

SUITE = "bookworm"
PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter", "git")
PORTS = (80, 443, 5432, 6379, 8000)
PACKAGES = "systemd,systemd-sysv,dbus,iproute2,python3,python3-venv,ca-certificates"
MIRROR = "http://deb.debian.org"
_SOURCES = f"""\
deb {MIRROR}/debian {SUITE} main
deb {MIRROR}/debian {SUITE}-updates main
deb {MIRROR}/debian-security {SUITE}-security main
"""
# The authorities that this machine trusts: its network may need that.
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP = "[global]\ncert = /etc/ssl/of-the-host.pem\n"


def why_not() -> str:
    """Return why no machine can be booted here, in a sentence; empty when one can."""
    if os.geteuid() != 0:
        return "booting machines needs root: sudo ./scripts/test -m machine"
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        names = ", ".join(missing)
        return f"{names} not found: apt-get install debootstrap systemd-container git"
    if taken := [str(port) for port in PORTS if _is_taken(port)]:
        return f"the machines share this one's network, where these ports are in use: {taken}"
    return ""


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return True
    return False


class RootFileSystems:
    """Copies in `folder` of a first one in `cache`, where downloads are kept as well."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self._base, self._folder = cache / SUITE, folder
        self._downloads = {
            cache / "apt": "/var/cache/apt/archives",
            cache / "pip": "/var/cache/pip",
        }
        self._copies = 0

    def copy(self) -> Path:
        """Return a new root file system."""
        if not self._base.exists():
            self._bootstrap()
        self._copies += 1
        target = self._folder / f"machine-{self._copies}"
        subprocess.run(["cp", "-a", "--reflink=auto", self._base, target], check=True)
        shutil.copy(_CERTIFICATES, target / "etc/ssl/of-the-host.pem")
        (target / "etc/pip.conf").write_text(_PIP)
        return target

    def mounts(self) -> list[str]:
        """Return what a machine gets from this one, as options of systemd-nspawn."""
        for folder in self._downloads:
            folder.mkdir(parents=True, exist_ok=True)
        shared = [f"--bind={here}:{there}" for here, there in self._downloads.items()]
        return [*shared, "--bind-ro=/etc/resolv.conf"]

    def _bootstrap(self) -> None:
        unfinished = self._base.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o755)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, unfinished],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (unfinished / "etc/apt/sources.list").write_text(_SOURCES)
        unfinished.rename(self._base)
