"""Debian machines that are booted for these tests, one at a time.

Needs root, and the packages debootstrap and systemd-container.

Environment: MACHINES_CACHE, a folder that keeps the first root file system and downloads for the
next run; UPGRADE_FROM, a git revision, see checkout.py.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines.machine import Machine
from machines.rootfs import RootFileSystems, why_not
from machines.site import Boot, Site


@pytest.fixture(scope="session")
def root_file_systems() -> Iterator[RootFileSystems]:
    """Root file systems in a folder that is deleted in the end."""
    if reason := why_not():
        pytest.exit(reason, returncode=2)
    folder = Path(tempfile.mkdtemp(prefix="machines-", dir="/var/tmp"))
    cache = Path(os.environ.get("MACHINES_CACHE") or folder / "cache").absolute()
    yield RootFileSystems(cache, folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def boot(root_file_systems: RootFileSystems) -> Iterator[Boot]:
    """A function that boots a new machine; the one before is switched off."""
    machines: list[Machine] = []

    def boot_one() -> Site:
        for machine in machines:
            machine.power_off()
        machines.append(Machine(root_file_systems.copy(), root_file_systems.mounts()))
        machines[-1].boot()
        return Site(machines[-1])

    yield boot_one
    for machine in machines:
        machine.power_off()
        shutil.rmtree(machine.root)


@pytest.fixture(scope="module")
def bare(boot: Boot) -> Site:
    """A bare Debian with a checkout on it, for the tests of one module."""
    site = boot()
    site.bring_checkout()
    return site


@pytest.fixture(scope="module")
def site(bare: Site) -> Site:
    """The same machine with the service installed."""
    if not bare.is_installed:
        bare.install("--with-redis")
    bare.wait_until_healthy()
    return bare
