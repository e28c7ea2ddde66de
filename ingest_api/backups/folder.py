"""The folder that backups are made in, and what is in it.

    .ingest-backup         made by --init: the right disk is mounted
    storage/audio/...      every recording once, as in AUDIO_STORAGE_DIR, for all backups together
    20260128T013000Z/      a complete backup, named after the moment (UTC) that it shows
        database.dump      of pg_dump, format custom
        files              which of the recordings are part of it; see `manifest.py`
        missing            those that rows promise and that were not there, or not whole, and why
        backup.json        a summary; see BackupSummary
        settings.env       if asked for
    20260128T013000Z.partial/    one that is being made, was interrupted, or is being removed

A folder loses `.partial` when all that it names is durable, and gets it again before the first
file is removed. What is to be copied is listed in it before, and what is to be removed until it is:
so nothing is forgotten.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

from ingest_api.backups.manifest import BackupError, sha256_of
from ingest_api.display import megabytes
from ingest_api.models.backups import BackupSummary
from ingest_api.storage.disk.folders import sync_path
from ingest_api.storage.disk.upkeep import DiskUpkeep

MARKER, PARTIAL = ".ingest-backup", ".partial"
DUMP, FILES, MISSING, SUMMARY = "database.dump", "files", "missing", "backup.json"
ROWS = "rows"  # the list before the first file is copied
SETTINGS = "settings.env"
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_MARKER_TEXT = "Backups of the ingest API. Without this file its disk is taken for not mounted.\n"


class BackupFolder:
    """BackupError when it cannot be used, and OSError when its disk fails."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.storage = DiskUpkeep(Path(os.path.realpath(self.root / "storage")))

    def prepare(self) -> None:
        """Make the folder ready for backups, once, with its disk mounted."""
        self.root.mkdir(mode=0o700, exist_ok=True)
        if (self.root / MARKER).exists():
            return
        if found := [name for name in os.listdir(self.root) if name != "lost+found"]:  # noqa: PTH208
            raise BackupError(f"{self.root} is not empty: it has {found[0]}. Take a new folder")
        (self.root / MARKER).write_text(_MARKER_TEXT)
        sync_path(self.root)

    def require_ready(self, audio_storage_dir: Path) -> None:
        storage = Path(os.path.realpath(audio_storage_dir))
        if self.root.is_relative_to(storage) or storage.is_relative_to(self.root):
            raise BackupError(f"{self.root} and AUDIO_STORAGE_DIR, {storage}, must be apart")
        if not (self.root / MARKER).is_file():
            raise BackupError(
                f"{self.root} is no folder for backups: there is no {MARKER} in it. Is its disk "
                f"mounted? If it is new: flask ingest backup --init {self.root}"
            )

    @contextmanager
    def locked(self, *, reading: bool = False) -> Iterator[None]:
        """Nobody removes anything in it meanwhile; nor, unless for `reading`, reads it. The lock
        ends with the process. Not on the folder itself: NFS locks for writing what is open so."""
        with (self.root / MARKER).open("rb" if reading else "rb+") as marker:
            try:
                fcntl.flock(marker, (fcntl.LOCK_SH if reading else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupError(f"Another backup or restore is at work in {self.root}") from None
            yield

    def complete(self) -> list[Path]:
        """The oldest first."""
        return [path for path in self._found() if path.name == path.stem]

    def partial(self) -> list[Path]:
        """What was interrupted: the backup, or its removal."""
        return [path for path in self._found() if path.name != path.stem]

    @contextmanager
    def new(self) -> Iterator[Path]:
        """A backup to be filled and then finished; else the big parts of it are gone at the end."""
        for left in self.partial():
            _strip(left)
        self.storage.root.mkdir(exist_ok=True)
        path = self.make_partial()
        try:
            yield path
        finally:
            if path.exists():
                _strip(path)

    def finish(self, partial: Path) -> Path:
        """From now on it is a backup."""
        self.sync()
        complete = partial.rename(partial.with_suffix(""))
        sync_path(self.root)
        return complete

    def sync(self) -> None:
        """Return when all that was done on its disk would survive a power cut."""
        sync_disk(self.root)

    def _found(self) -> list[Path]:
        paths = [path for path in self.root.iterdir() if _NAME.fullmatch(path.stem)]
        return sorted(path for path in paths if path.suffix in {"", PARTIAL} and path.is_dir())

    def make_partial(self) -> Path:
        """A new one, empty."""
        while True:
            complete = self.root / f"{datetime.now(UTC):{_TIME}}"
            path = complete.with_suffix(PARTIAL)
            if not complete.exists() and not path.exists():
                path.mkdir(mode=0o700)
                return path
            sleep(0.1)


def sync_disk(folder: Path) -> None:
    """Return when all that was done on this folder's disk would survive a power cut: syncfs(2)."""
    command = ["sync", "--file-system", str(folder)]
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise BackupError(f"The disk of {folder} fails: {run.stderr.strip()}")


def require_room(folder: Path, size: int, reserve: int) -> None:
    """BackupError unless `size` bytes can be written there and leave `reserve`."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if size + reserve > free:
        raise BackupError(
            f"There is not enough room in {folder}: {megabytes(size)} are to be written and "
            f"{megabytes(reserve)} to stay free (MIN_FREE_BYTES), {megabytes(free)} are free"
        )


def require_backup(path: Path) -> BackupSummary:
    """What a complete backup says of itself."""
    if path.suffix == PARTIAL or not (path / SUMMARY).is_file():
        raise BackupError(f"{path} is no complete backup: flask ingest backups {path.parent}")
    return read_summary(path)


def read_summary(path: Path) -> BackupSummary:
    try:
        return BackupSummary(**json.loads((path / SUMMARY).read_text("utf-8")))
    except (ValueError, TypeError):
        raise BackupError(f"{path / SUMMARY} is damaged") from None


def whole_list(path: Path) -> Path:
    """A complete backup's list of files. BackupError when it is damaged: a file that were missed in
    it would be taken for one that nobody needs."""
    if sha256_of(path / FILES) != read_summary(path).list_sha256:
        raise BackupError(
            f"{path / FILES} is damaged: remove that backup, and make one with --full"
        )
    return path / FILES


def write_summary(path: Path, summary: BackupSummary) -> None:
    (path / SUMMARY).write_text(json.dumps(asdict(summary), indent=2) + "\n")


def time_of(path: Path) -> datetime:
    """The moment that a backup shows."""
    return datetime.strptime(path.stem, _TIME).replace(tzinfo=UTC)


def _strip(partial: Path) -> None:
    """Leave only the list of what it may have copied."""
    for path in partial.iterdir():
        if path.name != FILES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not (partial / FILES).exists():
        partial.rmdir()
