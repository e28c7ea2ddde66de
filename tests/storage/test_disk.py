"""The store on a local disk keeps the contract of every store, and what only a disk promises."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from storage.contract import PATH, StoreContract, put

from ingest_api.errors import StorageFull, StorageUnavailable
from ingest_api.storage.disk.storage import DiskStorage


@pytest.fixture
def store(tmp_path: Path) -> DiskStorage:
    store = DiskStorage(tmp_path / "audio-storage")
    store.prepare()
    return store


class TestDiskStorage(StoreContract):
    """DiskStorage is a Store."""


def test_temporary_names_are_gone_afterwards(store: DiskStorage) -> None:
    put(store, PATH, b"1")
    put(store, PATH, b"2")
    assert list(store.temporary_files()) == []


def test_less_than_the_reserve_is_full(tmp_path: Path) -> None:
    store = DiskStorage(tmp_path, min_free_bytes=2**60)
    with pytest.raises(StorageFull), store.spool():
        pass


def test_a_folder_that_is_missing_is_not_made_below_an_unmounted_disk(tmp_path: Path) -> None:
    store = DiskStorage(tmp_path / "mount")
    with pytest.raises(StorageUnavailable), store.spool():
        pass
    with pytest.raises(StorageUnavailable):
        store.open(PATH)
    assert not (tmp_path / "mount").exists()


def test_a_symbolic_link_is_not_listed(store: DiskStorage, tmp_path: Path) -> None:
    put(store, PATH, b"1")
    (store.root / "audio" / "link.ogg").symlink_to(store.root / PATH)
    (store.root / "audio" / "elsewhere").symlink_to(tmp_path)
    assert [file.path for file in store.list("audio")] == [PATH]


def test_a_folder_that_cannot_be_read_is_told(store: DiskStorage) -> None:
    put(store, PATH, b"1")
    (store.root / "audio" / "broken").write_text("a file where a folder is expected")
    assert list(store.list("audio/broken")) == []
    assert store.unreadable == {"audio/broken": "Not a directory"}


def test_folders_may_be_very_deep(store: DiskStorage) -> None:
    put(store, "audio/z.ogg", b"1")
    folders = [store.root / "audio"]
    for _ in range(1100):  # more than Python's functions may call one another
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    (folders[-1] / "a.ogg").write_bytes(b"1")
    listed = [file.path for file in store.list("audio")]
    assert listed == [f"audio/{'d/' * 1100}a.ogg", "audio/z.ogg"]
    assert store.unreadable == {}
    (folders[-1] / "a.ogg").unlink()
    for folder in reversed(folders[1:]):  # pytest could not
        folder.rmdir()


class _Entry:
    """A file in a folder, whose inode the disk cannot read."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.name = entry.name

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return False

    def is_symlink(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO), self.name)


def test_a_file_that_the_disk_cannot_read_is_told_and_the_others_are_listed(
    store: DiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        put(store, f"audio/{name}.ogg", b"1")
    scandir = os.scandir

    @contextmanager
    def damaged(folder: Path) -> Iterator[list[Any]]:
        with scandir(folder) as entries:
            yield [_Entry(entry) if entry.name == "b.ogg" else entry for entry in entries]

    monkeypatch.setattr(os, "scandir", damaged)
    assert [file.path for file in store.list("audio")] == ["audio/a.ogg", "audio/c.ogg"]
    assert store.unreadable == {"audio/b.ogg": "Input/output error"}
