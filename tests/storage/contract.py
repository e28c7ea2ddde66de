"""What every store of recordings must do (ingest_api/storage/base.py). A backend's test module
subclasses `StoreContract` and gives it a fixture `store`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest_api.storage.base import Store

DAY = "audio/point/register/2026-01-28"
PATH = f"{DAY}/10/chunk_20260128_100000_a.ogg"


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


def put(store: Store[Any], path: str, data: bytes, recorded_at: datetime | None = None) -> str:
    """Store these bytes under this path; return their version."""
    with store.spool() as spool:
        spool.write(data)
        return store.store(spool, path, recorded_at or now())


def read(store: Store[Any], path: str) -> bytes:
    """Return what is stored under this path."""
    with store.open(path).file as file:
        return file.read()


def paths(store: Store[Any], prefix: str = "audio", after: str = "") -> list[str]:
    """Return the paths of a listing."""
    return [file.path for file in store.list(prefix, after)]


class StoreContract:
    """The suite; `store` is empty when a test begins."""

    def test_what_is_stored_can_be_read_and_is_described(self, store: Store[Any]) -> None:
        version = put(store, PATH, b"a recording")
        status = store.status(PATH)
        assert status is not None
        assert (status.size, status.version) == (11, version)
        assert abs(datetime.fromtimestamp(status.written_at, UTC) - now()) < timedelta(minutes=5)
        content = store.open(PATH)
        with content.file as file:
            assert (content.path, content.status) == (PATH, status)
            assert file.read() == b"a recording"
            assert file.seek(2) == 2
            assert file.read(3) == b"rec"

    def test_a_recording_is_written_in_pieces(self, store: Store[Any]) -> None:
        pieces = [bytes([number]) * 70_000 for number in range(20)]
        with store.spool() as spool:
            for piece in pieces:
                spool.write(piece)
            store.store(spool, PATH, now())
        assert read(store, PATH) == b"".join(pieces)

    def test_nothing_can_be_seen_before_it_is_stored(self, store: Store[Any]) -> None:
        with store.spool() as spool:
            spool.write(b"half a recording")
            assert store.status(PATH) is None
            assert paths(store) == []

    def test_what_is_not_stored_is_gone(self, store: Store[Any]) -> None:
        with pytest.raises(RuntimeError), store.spool() as spool:
            spool.write(b"half a recording")
            raise RuntimeError
        assert paths(store) == []

    def test_storing_again_takes_the_place_of_what_is_there(self, store: Store[Any]) -> None:
        first = put(store, PATH, b"damaged")
        with store.spool() as spool:
            spool.write(b"a recording")
            second = store.store(spool, PATH, now())
            status = store.status(PATH)
        assert first != second
        assert status is not None and status.version == second
        assert read(store, PATH) == b"a recording"
        assert paths(store) == [PATH]

    def test_one_spool_can_be_stored_twice_and_elsewhere(self, store: Store[Any]) -> None:
        other = f"{DAY}/11/chunk_20260128_110000_b.ogg"
        with store.spool() as spool:
            spool.write(b"a recording")
            store.store(spool, PATH, now())
            store.store(spool, PATH, now())
            store.store(spool, other, now())
        assert read(store, PATH) == read(store, other) == b"a recording"

    def test_spools_do_not_meet(self, store: Store[Any]) -> None:
        other = f"{DAY}/10/chunk_20260128_100100_b.ogg"
        with store.spool() as first, store.spool() as second:
            first.write(b"1")
            second.write(b"2")
            store.store(second, other, now())
            store.store(first, PATH, now())
        assert (read(store, PATH), read(store, other)) == (b"1", b"2")

    def test_a_file_that_is_not_there(self, store: Store[Any]) -> None:
        put(store, PATH, b"another")
        missing = f"{DAY}/10/chunk_20260128_100000_z.ogg"
        assert store.status(missing) is None
        with pytest.raises(FileNotFoundError):
            store.open(missing)
        assert store.remove({missing: now()}) == {}

    def test_a_folder_is_no_file(self, store: Store[Any]) -> None:
        put(store, PATH, b"a recording")
        assert store.status(DAY) is None
        with pytest.raises(FileNotFoundError):
            store.open(DAY)

    def test_what_is_there_can_be_made_durable_and_what_is_not_is_no_failure(
        self, store: Store[Any]
    ) -> None:
        put(store, PATH, b"a recording")
        store.sync({PATH: now(), "audio/nowhere/b.ogg": now() - timedelta(days=90)})
        store.sync({})
        assert read(store, PATH) == b"a recording"

    def test_a_listing_is_in_the_order_of_the_paths(self, store: Store[Any]) -> None:
        names = ["a/z.ogg", "a.ogg", "a-b/c.ogg", "ab/c.ogg", "b.ogg", "a/b/c.ogg", "aa.ogg"]
        stored = sorted(f"audio/{name}" for name in names)
        for path in reversed(stored):
            put(store, path, path.encode())
        assert paths(store) == stored
        for number, path in enumerate(stored):
            assert paths(store, after=path) == stored[number + 1 :]
        assert paths(store, after="audio/a/c") == [p for p in stored if p > "audio/a/c"]
        assert paths(store, "audio/a") == ["audio/a/b/c.ogg", "audio/a/z.ogg"]
        assert paths(store, "audio/none") == []
        [listed] = store.list("audio/ab")
        assert listed.size == len("audio/ab/c.ogg")
        assert abs(datetime.fromtimestamp(listed.written_at, UTC) - now()) < timedelta(minutes=5)

    @pytest.mark.parametrize("age", [timedelta(), timedelta(days=90)])
    def test_what_is_removed_is_gone_and_nothing_else(
        self, store: Store[Any], age: timedelta
    ) -> None:
        other = f"{DAY}/11/chunk_20260128_110000_b.ogg"
        for path in (PATH, other):
            put(store, path, b"a recording", now() - age)
        assert store.remove({PATH: now() - age}) == {}
        assert paths(store) == [other]
        assert store.remove({PATH: now() - age, other: now() - age}) == {}
        assert paths(store) == []
        put(store, PATH, b"once more", now() - age)
        assert read(store, PATH) == b"once more"

    def test_a_probe_leaves_nothing_behind(self, store: Store[Any]) -> None:
        store.probe()
        assert paths(store) == []

    def test_an_address_is_for_this_file_or_there_is_none(self, store: Store[Any]) -> None:
        put(store, PATH, b"a recording")
        address = store.url(PATH, 60)
        assert address is None or PATH.rpartition("/")[2] in address
