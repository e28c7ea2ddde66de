"""The files in which server processes count, kept by gunicorn's master.

A process counts in the files of a slot. No two live processes have the same one, and a slot is
given again after its process has ended, which then goes on counting where that one stopped: so
there are never more files than there were processes at once, and no counter goes back.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from ingest_api.metrics import count_in_files

_log = logging.getLogger(__name__)

_MEMORY = "/dev/shm"  # noqa: S108  its folder is ours alone
_PREFIX = "ingest-metrics-"
_KINDS = ("counter", "histogram", "gauge_livesum")
_BYTES = 65536  # of each file; all series together fill a quarter


def make_folder(master: Any) -> None:
    """Make the folder: in the unit's RuntimeDirectory, or else in memory if that is possible."""
    parent = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not parent:
        parent = _MEMORY if os.access(_MEMORY, os.W_OK) else tempfile.gettempdir()
    for folder in Path(parent).glob(f"{_PREFIX}*"):
        _remove_if_left(folder)
    master.metrics_folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
    # Held by the master and all that it forks, until the last one has ended.
    master.metrics_lock = os.open(master.metrics_folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(master.metrics_lock, fcntl.LOCK_EX)


def remove_folder(master: Any) -> None:
    """Remove the folder when the master ends."""
    shutil.rmtree(master.metrics_folder, ignore_errors=True)


def take_slot(master: Any, process: Any) -> None:
    """Give a new process the lowest slot that is free, before the fork."""
    taken = {other.metrics_slot for other in master.WORKERS.values()}
    process.metrics_slot = next(slot for slot in count() if slot not in taken)


def enter_slot(master: Any, process: Any) -> None:
    """Count in the files of the slot, after the fork. Without space for them the process serves
    all the same, and what it counts is lost."""
    folder, slot = master.metrics_folder, process.metrics_slot
    try:
        for kind in _KINDS:
            _allocate(Path(folder, f"{kind}_{slot}.db"))
    except OSError as error:
        _log.error("this process cannot count for /metrics: %s", error)
        slot = None
    count_in_files(folder, slot)


def leave_slot(master: Any, process: Any) -> None:
    """Forget what an ended process was doing; what it has counted stays."""
    mark_process_dead(process.metrics_slot, master.metrics_folder)  # type: ignore[no-untyped-call]


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a master that was killed. Another's, or one in use, stays."""
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(lock)


def _allocate(path: Path) -> None:
    """Take the space of a file at once: the kernel kills a process that writes into memory for
    which the disk has no space later."""
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, _BYTES)
