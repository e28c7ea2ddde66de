"""Removes old backups, and the files that only they contain.

Files that interrupted backups and removals have left are removed as well. So what retention, or a
person's right to erasure, has removed from the service is gone once no kept backup is older.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from heapq import merge
from pathlib import Path

from ingest_api.backups.folder import FILES, PARTIAL, BackupFolder, read_summary, whole_list
from ingest_api.backups.manifest import (
    BackupError,
    format_line,
    parse_line,
    read_lines,
    read_paths,
    sha256_of,
    unescape,
    without,
    write_sorted,
)
from ingest_api.models.backups import ListedFile
from ingest_api.storage.disk.folders import remove_empty_folders, sync_path


@dataclass(frozen=True)
class Removed:
    backups: int  # that were complete
    files: int
    bytes: int
    postponed: str = ""  # the list because of which no recording was removed


def keep(folder: BackupFolder, number: int, newest: Path, *, full: bool) -> Removed:
    """Keep `number` backups, `newest` among them, and remove the others. With `full` consider every
    file on the disk, not only those in the lists of backups that go."""
    damaged = [path for path, _ in folder.damaged()]
    others = [path for path in folder.complete() if path != newest]
    dropped = others[: max(0, len(others) + 1 - number)]
    kept = [whole_list(path) for path in [newest, *reversed(others[len(dropped) :])]]
    kept += [path / FILES for path in damaged if _names_files(path)]
    postponed = next((str(path / FILES) for path in damaged if _is_uncertain(path)), "")
    for path in dropped:
        path.rename(path.with_suffix(PARTIAL))
    if full:
        list_everything(folder)
    sync_path(folder.root)  # from here on they no longer count as complete
    if postponed:
        return Removed(len(dropped), 0, 0, postponed)
    going = folder.partial()
    unwanted: Iterator[bytes] = merge(*map(read_paths, _lists(going)))
    for files in kept:
        unwanted = without(unwanted, read_paths(files))
    sizes = list(_remove(folder, unwanted))
    folder.sync()  # the files must be gone before the lists that name them
    for path in going:
        shutil.rmtree(path)
    sync_path(folder.root)
    return Removed(len(dropped), len(sizes), sum(sizes))


def _names_files(path: Path) -> bool:
    """Return whether a damaged backup has a list of files that can be relied upon."""
    try:
        for line in read_lines(path / FILES):
            parse_line(line)
    except (OSError, BackupError):
        return False
    try:
        return sha256_of(path / FILES) == read_summary(path).list_sha256
    except BackupError:
        return True  # nothing contradicts it


def _is_uncertain(path: Path) -> bool:
    """Return whether a damaged backup may have listed files that are now unknown. Without any list
    it could not be restored even by hand."""
    try:
        (path / FILES).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return not _names_files(path)


def list_everything(folder: BackupFolder) -> None:
    """List every file on the disk, as if in a backup that is to be removed."""
    files = (ListedFile(path, 0, None) for path in _walk(folder.storage.root))
    write_sorted(folder.make_partial() / FILES, map(format_line, files))


def _lists(folders: list[Path]) -> list[Path]:
    return [path / FILES for path in folders if (path / FILES).exists()]


def _walk(root: Path) -> Iterator[str]:
    for folder, _folders, names in os.walk(root):  # which follows no links
        for name in names:
            yield str(Path(folder, name).relative_to(root))


def _remove(folder: BackupFolder, paths: Iterator[bytes]) -> Iterator[int]:
    """Remove the files, and folders that become empty. Yield the size of each removed file."""
    root = folder.storage.root
    last = root
    for path in map(unescape, paths):
        with suppress(FileNotFoundError, NotADirectoryError, ValueError):
            file = root / path
            if folder.storage.canonical(path) != path or file.parent.resolve() != file.parent:
                continue
            if file.parent != last:
                remove_empty_folders(last, up_to={root})
                last = file.parent
            size = file.lstat().st_size
            file.unlink()
            yield size
    remove_empty_folders(last, up_to={root})
