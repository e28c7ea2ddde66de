"""A folder for backups, and what is in it.

    .ingest-backup         made by --init: shows that the right disk is mounted
    storage/audio/...      every recording once, as in AUDIO_STORAGE_DIR, for all backups together
    20260128T013000Z/      a complete backup, named after the time (UTC) of its snapshot
        database.dump      from pg_dump, format custom
        files              the recordings that are part of it; see `manifest.py`
        missing            recordings that rows promise but that were lost or damaged, and why
        backup.json        a summary; see BackupSummary
        settings.env       if asked for
    20260128T013000Z.partial/    a backup that is being made, was interrupted, or is being removed

A folder loses `.partial` when all that it names is durable, and gets it again before the first
file is removed. Files are listed in it before they are copied, and until they are removed: so none
is forgotten.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
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
_MARKER_TEXT = "Backups of the ingest API. Without this file the disk counts as not mounted.\n"


class BackupFolder:
    """A folder for backups. Raises BackupError if it is unusable, and OSError if its disk fails."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.storage = DiskUpkeep(Path(os.path.realpath(self.root / "storage")))

    def prepare(self) -> None:
        """Make the folder ready for backups, once, with its disk mounted."""
        self.root.mkdir(mode=0o700, exist_ok=True)
        if (self.root / MARKER).exists():
            return
        if found := [name for name in os.listdir(self.root) if name != "lost+found"]:  # noqa: PTH208
            raise BackupError(f"{self.root} is not empty: it has {found[0]}", "use a new folder")
        (self.root / MARKER).write_text(_MARKER_TEXT)
        sync_path(self.root)

    def require_ready(self, audio_storage_dir: Path) -> None:
        storage = Path(os.path.realpath(audio_storage_dir))
        if self.root.is_relative_to(storage) or storage.is_relative_to(self.root):
            raise BackupError(
                f"{self.root} and AUDIO_STORAGE_DIR ({storage}) overlap",
                "use separate folders",
            )
        if not (self.root / MARKER).is_file():
            raise BackupError(
                f"{self.root} is not a folder for backups: it has no {MARKER}",
                f"mount its disk or, if it is new, run: flask ingest backup --init {self.root}",
            )

    @contextmanager
    def locked(self, *, reading: bool = False) -> Iterator[None]:
        """Keep others from removing anything in it and, unless `reading`, from reading it. The lock
        ends with the process. It is on a file: NFS locks exclusively only what is open for writing.
        """
        with (self.root / MARKER).open("rb" if reading else "rb+") as marker:
            try:
                fcntl.flock(marker, (fcntl.LOCK_SH if reading else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupError(f"Another backup or restore is running in {self.root}") from None
            yield

    def complete(self) -> list[Path]:
        """Return the complete backups that can be restored, oldest first."""
        return [path for path in self._finished() if not damage(path)]

    def damaged(self) -> list[tuple[Path, str]]:
        """Return the backups that cannot be restored as they are, and why."""
        return [(path, why) for path in self._finished() if (why := damage(path))]

    def partial(self) -> list[Path]:
        """Return the folders of interrupted backups and interrupted removals."""
        paths = (path for path in self.root.iterdir() if path.suffix == PARTIAL)
        return sorted(path for path in paths if _NAME.fullmatch(path.stem) and path.is_dir())

    @contextmanager
    def new(self) -> Iterator[Path]:
        """Yield a folder to fill and finish. If it is not finished, its big parts are removed."""
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
        """Make it a complete backup, and return its final path."""
        self.sync()
        complete = partial.rename(partial.with_suffix(""))
        sync_path(self.root)
        return complete

    def sync(self) -> None:
        """Return when everything written to its disk would survive a power cut."""
        sync_disk(self.root)

    def _finished(self) -> list[Path]:
        return sorted(path for path in self.root.iterdir() if _NAME.fullmatch(path.name))

    def make_partial(self) -> Path:
        """Create and return a new, empty folder."""
        while True:
            complete = self.root / f"{datetime.now(UTC):{_TIME}}"
            path = complete.with_suffix(PARTIAL)
            if not complete.exists() and not path.exists():
                path.mkdir(mode=0o700)
                return path
            sleep(0.1)


def sync_disk(folder: Path) -> None:
    """Return when everything written to the folder's disk would survive a power cut: syncfs(2)."""
    command = ["sync", "--file-system", str(folder)]
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise BackupError(f"The disk of {folder} fails: {run.stderr.strip()}")


def require_room(folder: Path, size: int, reserve: int) -> None:
    """Raise BackupError unless `size` bytes fit there and leave `reserve` bytes free."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if size + reserve > free:
        raise BackupError(
            f"There is not enough space in {folder}: {megabytes(size)} are needed and "
            f"{megabytes(reserve)} must stay free (MIN_FREE_BYTES), but {megabytes(free)} are free",
            "free some space there, or use a bigger disk",
        )


def require_backup(path: Path) -> BackupSummary:
    """Return a complete backup's summary. Raise BackupError if there is none."""
    if path.suffix == PARTIAL or not (path / SUMMARY).is_file():
        raise BackupError(
            f"{path} is not a complete backup",
            f"list complete ones: flask ingest backups {path.parent}",
        )
    return read_summary(path)


def read_summary(path: Path) -> BackupSummary:
    """Return a backup's summary, without what a newer version may have added to it. Raise
    BackupError if it is damaged or cannot be read."""
    try:
        told = json.loads((path / SUMMARY).read_text("utf-8"))
        known = {
            field.name: told[field.name] for field in fields(BackupSummary) if field.name in told
        }
        summary = BackupSummary(**known)
    except FileNotFoundError:
        raise BackupError(f"{path / SUMMARY} is missing") from None
    except OSError as error:
        raise BackupError(f"{path / SUMMARY} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise BackupError(f"{path / SUMMARY} is damaged") from None
    if not summary.is_plausible():
        raise BackupError(f"{path / SUMMARY} is damaged")
    return summary


def damage(path: Path) -> str:
    """Return why a complete backup cannot be restored, or an empty string. The dump's content and
    the recordings are not read."""
    try:
        size = read_summary(path).dump_bytes
        whole_list(path)
        if (path / DUMP).stat().st_size != size:
            return f"{path / DUMP} is damaged"
    except BackupError as error:
        return error.message
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    return ""


def whole_list(path: Path) -> Path:
    """Return the path of a complete backup's list of files. Raise BackupError if it is damaged: a
    file that it fails to list would be removed as unneeded."""
    if sha256_of(path / FILES) != read_summary(path).list_sha256:
        raise BackupError(
            f"{path / FILES} is damaged", "remove that backup, and make one with --full"
        )
    return path / FILES


def write_summary(path: Path, summary: BackupSummary) -> None:
    (path / SUMMARY).write_text(json.dumps(asdict(summary), indent=2) + "\n")


def _strip(partial: Path) -> None:
    """Remove all but the list of the files that it may have copied."""
    for path in partial.iterdir():
        if path.name != FILES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not (partial / FILES).exists():
        partial.rmdir()
