"""The store on a local disk keeps the contract of every store, and what only a disk promises."""

from pathlib import Path

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
