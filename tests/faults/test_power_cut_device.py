"""A power cut at random moments, on a real file system: what got its 200 is on the disk.

The service and PostgreSQL run on an ext4 of their own, on a loop device that writes nothing by
itself. Now and then the image is copied as it is on the "disk", and mounted, which recovers its
journal. PostgreSQL recovers from it as well.

This proves the service with this kernel; not that a disk keeps what it says it has written. Needs
root, for the mounts. Environment: POWER_CUTS (5).
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from lab.postgres import LocalPostgres
from lab.service import Site
from support.ledger import Audit, Ledger, audit
from support.load import Load

pytestmark = pytest.mark.machine
CUTS = int(os.environ.get("POWER_CUTS", "5"))
DEVICES = 10
SOUND = os.urandom(20_000)
IMAGE_BYTES = 4 * 2**30  # sparse
CARELESS = {
    "GUNICORN_CMD_ARGS": "--worker-class=support.careless_worker.CarelessWorker",
    "PYTHONPATH": str(Path(__file__).parents[1]),
}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _mounted(image: Path, point: Path) -> Iterator[Path]:
    """Mount it as a disk that writes nothing for ten minutes, unless it is told to."""
    point.mkdir(exist_ok=True)
    _run("mount", "-o", "loop,commit=600", image, point)
    try:
        yield point
    finally:
        _run("umount", point)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """An empty ext4."""
    assert os.geteuid() == 0, "mounting file systems needs root: sudo ./scripts/test -m machine"
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", path)
    yield path
    path.unlink()


def _cut_again_and_again(image: Path, *, careless: bool) -> Iterator[Audit]:
    """Cut the power under load, and yield what is found on the disk each time."""
    folder, copy = image.parent, image.with_name("copy.img")
    environ = CARELESS if careless else None
    with (
        _mounted(image, folder / "disk") as disk,
        Site(disk / "site", workers=4, environ=environ) as site,
    ):
        recorders = [site.new_recorder() for _ in range(DEVICES)]
        # An hour apart: each chunk needs a new folder.
        hour = timedelta(hours=1)
        load = Load(recorders, site.address, rate=0, sound=SOUND, spacing=hour)
        with load.running():
            for _ in range(CUTS):
                time.sleep(random.uniform(0.5, 1.5))
                receipts = dict(load.ledger.receipts)
                with site.standing_still():
                    _run("cp", "--sparse=always", image, copy)
                yield _look(copy, folder / "copy", load.ledger.as_of(receipts))
                copy.unlink()


def _look(copy: Path, point: Path, ledger: Ledger) -> Audit:
    """Recover the disk of that moment, and compare."""
    assert ledger.receipts
    with _mounted(copy, point) as disk:
        # It names a process that lives on, as after no power cut.
        (disk / "site/postgres/postmaster.pid").unlink(missing_ok=True)
        with LocalPostgres(disk / "site") as postgres:
            found = audit(ledger, postgres.url(), disk / "site" / "audio")
        print(f"{len(ledger.receipts)} acknowledged, {found.problems or 'nothing lost'}")
        return found


def test_what_was_acknowledged_survives_every_power_cut(image: Path) -> None:
    for found in _cut_again_and_again(image, careless=False):
        assert not found.problems, found


def test_without_fsync_uploads_are_lost(image: Path) -> None:
    """The control: the test above finds it if the service does not sync."""
    found = list(_cut_again_and_again(image, careless=True))
    assert sum(each.problems["file missing"] + each.problems["other bytes"] for each in found)
