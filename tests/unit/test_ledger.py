"""The audit finds every kind of loss: the soak, fleet and machine tests rest on it."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from lab.recorder import Attempt, Chunk, Recorder
from support.ledger import Ledger, audit

from ingest_api.models.devices import NewDevice
from ingest_api.tokens import generate_token
from ingest_api.usecases import devices

START = datetime(2026, 1, 28, 10, tzinfo=UTC)


class Store:
    """What a service would have stored, made by hand."""

    def __init__(self, database_url: str, storage: Path) -> None:
        self.url, self.storage, self.ledger = database_url, storage, Ledger()
        ids = {name: uuid4() for name in ("device_id", "point_id", "register_id")}
        token = generate_token()
        self.recorder = Recorder(**ids, token=token)
        with self.connect() as connection:
            devices.create_device(connection, NewDevice(**ids), token=token)
        self.now = datetime.now(UTC)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True)

    def execute(self, statement: str, **values: object) -> None:
        with self.connect() as connection:
            connection.execute(statement, values)

    def store(self, number: int, chunk_id: UUID | None = None) -> dict[str, Any]:
        """Store a chunk, and return the answer to its upload."""
        data, start_ts = b"sound %d" % number, START + timedelta(minutes=number)
        chunk_id, device = chunk_id or uuid4(), self.recorder
        path = f"audio/{device.point_id}/{device.register_id}/2026-01-28/10/"
        path += f"chunk_{start_ts:%Y%m%d_%H%M%S}_{chunk_id}.ogg"
        (self.storage / path).parent.mkdir(parents=True, exist_ok=True)
        (self.storage / path).write_bytes(data)
        self.execute(
            "INSERT INTO audio_chunks (chunk_id, device_id, point_id, register_id, start_ts,"
            " end_ts, duration_sec, codec, sample_rate, channels, file_path, file_size_bytes,"
            " sha256) VALUES (%(chunk_id)s, %(device_id)s, %(point_id)s, %(register_id)s,"
            " %(start_ts)s, %(start_ts)s + interval '1 minute', 60, 'opus', 48000, 1, %(path)s,"
            " %(size)s, %(sha)s)",
            **vars(device),
            **{"chunk_id": chunk_id, "start_ts": start_ts, "path": path},
            **{"size": len(data), "sha": hashlib.sha256(data).digest()},
        )
        self.execute("UPDATE devices SET last_seen_at = %(now)s", now=self.now)
        self.execute(
            "INSERT INTO recorded_hours AS known"
            " VALUES (%(device_id)s, %(hour)s, 1::bigint << %(minute)s, 1, %(size)s)"
            " ON CONFLICT (device_id, hour) DO UPDATE SET minutes = known.minutes"
            " | excluded.minutes, chunks = known.chunks + 1, bytes = known.bytes + excluded.bytes",
            **{"device_id": device.device_id, "minute": start_ts.minute, "size": len(data)},
            **{"hour": start_ts.replace(minute=0)},
        )
        return {
            "chunk_id": str(chunk_id),
            "stored_path": path,
            "sha256": hashlib.sha256(data).hexdigest(),
            "file_size_bytes": len(data),
            "server_time": self.now.isoformat(),
        }

    def tell(self, number: int, answer: dict[str, Any], status: int = 200) -> None:
        chunk = Chunk(START + timedelta(minutes=number), b"sound %d" % number)
        self.ledger.record(self.recorder, Attempt(chunk, status, answer))

    def upload(self, number: int) -> dict[str, Any]:
        """Do all that belongs to an upload which succeeds."""
        self.ledger.recorded()
        answer = self.store(number)
        self.tell(number, answer)
        return answer

    def problems(self) -> dict[str, int]:
        return dict(audit(self.ledger, self.url, self.storage).problems)


@pytest.fixture(scope="module")
def url(new_database: Callable[..., str]) -> str:
    """The database that these tests share; each begins with an empty one."""
    return new_database()


@pytest.fixture
def store(url: str, tmp_path: Path) -> Store:
    """A store with three chunks, as it should be."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE devices CASCADE")
    store = Store(url, tmp_path)
    for number in range(3):
        store.upload(number)
    assert store.problems() == {}
    return store


def _delete_row(store: Store, path: Path) -> None:
    store.execute(
        "DELETE FROM audio_chunks WHERE file_path = %(path)s", path=_relative(store, path)
    )


def _change_row(column: str, value: str) -> Callable[[Store, Path], None]:
    def change(store: Store, path: Path) -> None:
        store.execute(
            f"UPDATE audio_chunks SET {column} = {value} WHERE file_path = %(path)s",
            path=_relative(store, path),
        )

    return change


def _relative(store: Store, path: Path) -> str:
    return str(path.relative_to(store.storage))


def _move_file(store: Store, path: Path) -> None:
    moved = path.with_name(f"of_another_{path.name}")
    path.rename(moved)
    _change_row("file_path", f"'{_relative(store, moved)}'")(store, path)


def _move_to_other_device(store: Store, path: Path) -> None:
    other = uuid4()
    with store.connect() as connection:
        ids = {"device_id": other, "point_id": uuid4(), "register_id": uuid4()}
        devices.create_device(connection, NewDevice(**ids), token=generate_token())
    _change_row("device_id", f"'{other}'")(store, path)


DAMAGES: dict[str, tuple[Callable[[Store, Path], object], dict[str, int]]] = {
    "row deleted": (_delete_row, {"lost": 1}),
    "all rows deleted": (lambda store, _: store.execute("DELETE FROM audio_chunks"), {"lost": 3}),
    "hours without a minute": (
        lambda store, _: store.execute("UPDATE recorded_hours SET minutes = minutes & ~2"),
        {"hours differ": 1},
    ),
    "hours lost": (
        lambda store, _: store.execute("DELETE FROM recorded_hours"),
        {"hours differ": 1},
    ),
    "file deleted": (lambda _, path: path.unlink(), {"file missing": 1}),
    "file emptied": (lambda _, path: path.write_bytes(b""), {"other bytes": 1}),
    "file of other bytes": (lambda _, path: path.write_bytes(b"SOUND 0"), {"other bytes": 1}),
    "file longer": (lambda _, path: path.write_bytes(b"sound 0."), {"other bytes": 1}),
    "file in another place": (_move_file, {"wrong path": 1, "row differs": 1}),
    "row of another device": (_move_to_other_device, {"row differs": 1}),
    "row of another time": (
        _change_row("start_ts", "start_ts - interval '1 day'"),
        {"row differs": 1, "wrong path": 1},
    ),
    "row of another id": (
        _change_row("chunk_id", "gen_random_uuid()"),
        {"row differs": 1, "wrong path": 1},
    ),
    "row of another size": (
        _change_row("file_size_bytes", "1"),
        {"row differs": 1, "other bytes": 1},
    ),
    "row of other bytes": (
        _change_row("sha256", "decode(repeat('00', 32), 'hex')"),
        {"lost": 1, "other bytes": 1, "unknown row": 1},
    ),
    "stored twice": (lambda store, _: store.store(0), {"double": 1}),
    "stored and never sent": (lambda store, _: store.store(9), {"unknown row": 1}),
    "devices never seen": (
        lambda store, _: store.execute("UPDATE devices SET last_seen_at = NULL"),
        {"device not seen": 1},
    ),
    "devices seen too early": (
        lambda store, _: store.execute(
            "UPDATE devices SET last_seen_at = last_seen_at - interval '3 minutes'"
        ),
        {"device not seen": 1},
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_kind_of_damage_is_found(store: Store, name: str) -> None:
    damage, expected = DAMAGES[name]
    path = next((store.storage / "audio").rglob("chunk_20260128_100000_*"))
    damage(store, path)
    # What is wrong with a row is wrong with its hour, too.
    found = store.problems() if "hours" in name else _without_hours(store.problems())
    assert found == expected


def _without_hours(problems: dict[str, int]) -> dict[str, int]:
    return {kind: number for kind, number in problems.items() if kind != "hours differ"}


@pytest.mark.parametrize(
    "change", [{"sha256": "0" * 64}, {"file_size_bytes": 1}, {"duplicate": True}]
)
def test_an_answer_that_cannot_be_true_is_found(store: Store, change: dict[str, Any]) -> None:
    store.ledger.recorded()
    store.tell(3, store.store(3) | change)
    assert store.problems() == {"contradiction": 1}


def test_a_chunk_that_is_sent_again_may_be_a_duplicate(store: Store) -> None:
    store.ledger.recorded()
    answer = store.store(3)
    store.tell(3, {}, status=503)
    assert store.ledger.pending == 1
    assert store.problems() == {}  # stored, though nobody was told
    store.tell(3, answer | {"duplicate": True})
    assert store.problems() == {}
    assert (store.ledger.duplicates, store.ledger.failures) == (1, {"503": 1})
    assert (store.ledger.pending, store.ledger.sent) == (0, 5)


def test_a_file_without_a_row_and_a_temporary_file_are_harmless(store: Store) -> None:
    (store.storage / "audio" / "stray.ogg").touch()
    (store.storage / ".incoming").mkdir()
    (store.storage / ".incoming" / "temporary").touch()
    found = audit(store.ledger, store.url, store.storage)
    assert (found.problems, found.rows) == ({}, 3)
    assert (found.files_without_row, found.temporary_files) == (1, 1)


def test_what_was_acknowledged_after_a_moment_may_be_there_or_not(store: Store) -> None:
    before = dict(store.ledger.receipts)
    answer = store.upload(3)
    earlier = store.ledger.as_of(before)
    assert audit(earlier, store.url, store.storage).problems == {}
    _delete_row(store, store.storage / answer["stored_path"])
    assert _without_hours(audit(earlier, store.url, store.storage).problems) == {}
    assert _without_hours(store.problems()) == {"lost": 1}


def test_ledgers_can_be_put_together(store: Store) -> None:
    whole = Ledger()
    whole.include(store.ledger)
    assert audit(whole, store.url, store.storage).problems == {}
    store.execute("DELETE FROM audio_chunks")
    assert _without_hours(audit(whole, store.url, store.storage).problems) == {"lost": 3}
