"""`flask ingest fsck --adopt`: files prove whose they are, and get their rows back."""

import errno
import json
import os
import struct
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.commands import flask_ingest
from support.leases import HttpWorker
from support.recorder import SPEECH, Recorder
from support.service import Service

from ingest_api.database.pool import connect
from ingest_api.errors import StorageUnavailable
from ingest_api.models.chunks import ChunkStatus
from ingest_api.settings import Settings
from ingest_api.storage.base import Content
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import StoredPath
from ingest_api.usecases.adoption import Adoption
from ingest_api.usecases.strays import Strays

ID = "00000000-0000-8000-8000-000000000001"
DAMAGED = "it is damaged, or no device that is known there has recorded it"
ASIDE = "set aside, and it cannot be adopted: "
TOLD = "no row names it, and it cannot be adopted: "
FACTS = ["device_id", "point_id", "register_id", "start_ts", "file_path", "file_size_bytes"]
FORMAT = ["sha256", "codec", "sample_rate", "channels", "duration_sec", "status"]


def _fsck(service: Service, *options: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """The exit status, the findings and the summary."""
    result = flask_ingest(
        service.database_url, "fsck", "--json", *options, AUDIO_STORAGE_DIR=str(service.storage)
    )
    *findings, last = [json.loads(line) for line in result.stdout.splitlines()]
    return result.returncode, findings, last["summary"]


def _speech(number: int) -> bytes:
    """Recordings that differ, behind their last page."""
    return SPEECH + b"%d" % number


def _age(path: Path) -> None:
    then = time.time() - 3 * 3600
    os.utime(path, (then, then), follow_symlinks=False)


def _lose_rows(service: Service) -> None:
    """The ledger is older than its files from now on."""
    with service.connect() as connection:
        connection.execute("DELETE FROM audio_chunks")
    for file in (service.storage / "audio").rglob("*.ogg"):
        _age(file)


def _stray(service: Service, recorder: Recorder, data: bytes = SPEECH) -> Path:
    """An acknowledged recording whose row is lost."""
    answer = service.upload(recorder, data)
    assert answer.status_code == 200
    _lose_rows(service)
    return service.storage / answer.json()["stored_path"]


def _not_adopted(service: Service) -> str:
    """Why the only stray is not adopted."""
    status, [finding], summary = _fsck(service, "--adopt")
    assert (status, finding["repaired"], summary["repaired"]) == (1, False, 0)
    assert finding["kind"] == "stray_file"
    assert finding["detail"].startswith(TOLD)
    return str(finding["detail"].removeprefix(TOLD))


def test_every_row_comes_back_as_it_was(emptied: Service) -> None:
    recorders = [emptied.recorder() for _ in range(2)]
    for number in range(6):
        recorder = recorders[number % 2]
        recorder.clock += timedelta(seconds=60, microseconds=123_457)
        assert emptied.upload(recorder, _speech(number)).status_code == 200
    before = [row for recorder in recorders for row in emptied.rows(recorder)]
    _lose_rows(emptied)

    status, findings, summary = _fsck(emptied, "--adopt")
    assert (status, summary["stray_file"], summary["repaired"]) == (1, 6, 6)
    assert {finding["detail"] for finding in findings} == {"no row names it: adopted"}
    after = [row for recorder in recorders for row in emptied.rows(recorder)]
    assert [finding["chunk_id"] for finding in findings]
    for old, new in zip(before, after, strict=True):
        assert {name: new[name] for name in FACTS + FORMAT} == {
            name: old[name] for name in FACTS + FORMAT
        }
        assert abs(new["end_ts"] - old["end_ts"]) < timedelta(seconds=1)
        assert timedelta(hours=2) < old["created_at"] - new["created_at"] < timedelta(hours=4)
        assert new["attempts"] == new["attempts_forgiven"] == 1000  # no lease of before matches
    assert _fsck(emptied, "--adopt")[0] == 0
    ends = (recorders[1].clock + timedelta(seconds=59.9)).isoformat()
    again = emptied.upload(recorders[1], _speech(5), end_ts=ends)
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert len(HttpWorker(emptied).claim(limit=10)) == 6


def test_what_was_set_aside_comes_back_too(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _stray(emptied, recorder)
    assert "moved to .lost+found/" in _fsck(emptied, "--repair")[1][0]["detail"]
    assert not file.exists()
    status, [finding], _ = _fsck(emptied, "--adopt")
    assert (status, finding["repaired"]) == (1, True)
    assert finding["detail"].startswith("no row named it: adopted, and brought back to audio/")
    assert file.read_bytes() == SPEECH
    assert [row["status"] for row in emptied.rows(recorder)] == ["QUEUED"]
    assert _fsck(emptied, "--adopt")[0] == 0


def test_it_takes_no_other_files_place(emptied: Service) -> None:
    """What is there is damaged, and too young to be looked at."""
    recorder = emptied.recorder()
    file = _stray(emptied, recorder)
    lost = emptied.storage / ".lost+found/20260101T000000Z" / file.relative_to(emptied.storage)
    lost.parent.mkdir(parents=True)
    file.rename(lost)
    file.write_bytes(SPEECH[:-1])
    [finding] = _fsck(emptied, "--adopt")[1]
    assert finding["detail"] == f"{ASIDE}another file is in its place"
    assert (file.read_bytes(), lost.read_bytes()) == (SPEECH[:-1], SPEECH)
    assert emptied.rows(recorder) == []


def test_a_device_that_was_moved_is_found(emptied: Service) -> None:
    recorder = emptied.recorder()
    assert emptied.upload(recorder, _speech(1)).status_code == 200
    recorder.clock += timedelta(minutes=1)
    file = emptied.storage / emptied.upload(recorder, _speech(2)).json()["stored_path"]
    with emptied.connect() as connection:
        connection.execute(
            "UPDATE devices SET point_id = gen_random_uuid(), register_id = gen_random_uuid()"
        )
        connection.execute("DELETE FROM audio_chunks WHERE file_path LIKE %s", [f"%{file.name}"])
    _age(file)
    assert _fsck(emptied, "--adopt")[2]["repaired"] == 1
    points = {row["point_id"] for row in emptied.rows(recorder)}
    assert points == {recorder.device.point_id}


def test_what_is_damaged_is_not_adopted(emptied: Service) -> None:
    file = _stray(emptied, emptied.recorder())
    file.write_bytes(SPEECH[:-1])
    _age(file)
    assert _not_adopted(emptied) == DAMAGED
    finding = _fsck(emptied, "--adopt", "--repair")[1][0]
    assert "recorded it: moved to .lost+found/" in finding["detail"]
    [finding] = _fsck(emptied, "--adopt")[1]
    assert (finding["repaired"], finding["detail"]) == (False, f"{ASIDE}{DAMAGED}")
    assert _fsck(emptied)[0] == 0


def test_a_device_that_nobody_knows_is_not_made(emptied: Service) -> None:
    _stray(emptied, emptied.recorder())
    with emptied.connect() as connection:
        connection.execute("DELETE FROM devices")
    assert _not_adopted(emptied) == DAMAGED


def test_what_retention_has_removed_does_not_come_back(emptied: Service) -> None:
    file = _stray(emptied, emptied.recorder())
    with emptied.connect() as connection:
        connection.execute(
            "INSERT INTO pruned_chunks (chunk_id) VALUES (%s)",
            [file.stem.rpartition("_")[2]],
        )
    assert _not_adopted(emptied) == "retention has removed its chunk"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no audio at all", "it is no OGG/Opus recording"),
        (SPEECH[:200], "there is no audio behind the headers"),
        (
            SPEECH.replace(struct.pack("<q", 48_000), struct.pack("<q", 2**62)),
            "it says that it lasts",
        ),
    ],
    ids=["no audio", "headers", "endless"],
)
def test_a_recording_of_unknown_length_is_not_adopted(
    emptied: Service, data: bytes, why: str
) -> None:
    _stray(emptied, emptied.recorder(), data)
    assert _not_adopted(emptied).startswith(f"how long it lasts is not known: {why}")


@pytest.mark.parametrize(
    "name",
    [
        "audio/notes.txt",
        f"audio/chunk_20260128_100000_{ID}.ogg",
        f"audio/{ID}/{ID}/2026-01-28/10/chunk_20260128_100000_{ID}.ogg",
        f"audio/{ID}/x/2026-01-28/10/chunk_20260128_100000_{ID}.ogg",
        "audio/\udcff\n_00000000-0000-4000-8000-000000000000.ogg",
    ],
)
def test_a_name_that_is_not_ours_is_not_adopted(emptied: Service, name: str) -> None:
    file = emptied.storage / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(SPEECH)
    _age(file)
    assert _not_adopted(emptied) == "its name is none that this service gives"


def test_one_that_cannot_be_read_stops_no_other(emptied: Service) -> None:
    """The disk reports an error for one."""
    recorder = emptied.recorder()
    files = []
    for number in range(2):
        recorder.clock += timedelta(minutes=1)
        file = emptied.upload(recorder, _speech(number)).json()["stored_path"]
        files.append(emptied.storage / file)
    _lose_rows(emptied)
    with connect(Settings.from_environ({"DATABASE_URL": emptied.database_url})) as connection:
        store = _Damaged(emptied.storage, files[0].name)
        adoption = Adoption(connection, store, waiting_status=ChunkStatus.QUEUED)
        found = list(Strays(connection, store, 3600, adoption=adoption).stray_files(lambda _: None))
    assert "it cannot be read: [Errno 5]" in found[0].detail
    assert [finding.repaired for finding in found] == [False, True]


class _Damaged(DiskUpkeep):
    """A disk that cannot read a file."""

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(root)
        self._name = name

    def open(self, path: StoredPath) -> Content:
        if path.endswith(self._name):
            raise StorageUnavailable from OSError(errno.EIO, "Input/output error")
        return super().open(path)


def test_links_and_pipes_in_place_of_files_are_left_alone(emptied: Service) -> None:
    file = _stray(emptied, emptied.recorder())
    aside = file.rename(emptied.folder / "aside")
    file.symlink_to(aside)
    assert _fsck(emptied, "--adopt")[0] == 0
    file.unlink()
    os.mkfifo(file)
    _age(file)
    assert "Not a regular file" in _not_adopted(emptied)


def test_a_row_that_came_meanwhile_stays_as_it_is(emptied: Service) -> None:
    """An upload has been quicker."""
    recorder = emptied.recorder()
    file = _stray(emptied, recorder)
    lost = emptied.storage / ".lost+found/20260101T000000Z" / file.relative_to(emptied.storage)
    lost.parent.mkdir(parents=True)
    file.rename(lost)
    assert emptied.upload(recorder).json()["duplicate"] is False
    [before] = emptied.rows(recorder)
    assert _fsck(emptied, "--adopt")[0] == 0
    assert emptied.rows(recorder) == [before]
    assert lost.exists()
    assert file.read_bytes() == SPEECH


def _set_aside(service: Service, recorder: Recorder, data: bytes) -> Path:
    """Where it is in .lost+found."""
    file = _stray(service, recorder, data)
    finding = _fsck(service, "--repair")[1][0]
    assert not file.exists()
    return service.storage / str(finding["detail"]).rpartition(" ")[2]


def _prune(service: Service, *options: str) -> dict[str, int]:
    """What is removed of what was set aside."""
    result = flask_ingest(
        *(service.database_url, "prune", "--yes", "--json", *options),
        AUDIO_STORAGE_DIR=str(service.storage),
    )
    assert result.returncode == 0, result.stderr
    lost: dict[str, int] = json.loads(result.stdout)["lost_and_found"]
    return lost


def test_retention_removes_what_was_set_aside_long_ago(emptied: Service) -> None:
    recorder = emptied.recorder()
    new, old = (_set_aside(emptied, recorder, _speech(number)) for number in range(2))
    then = time.time() - 91 * 86400
    os.utime(old, (then, then))
    for other, removed in (["--status", "done"], 0), (["--dry-run"], 1), ([], 1):
        lost = _prune(emptied, "--older-than", "90d", *other)
        assert lost["files"] == removed
        assert lost["bytes"] == removed * len(_speech(1))
        assert old.exists() is (other != [])
    assert not old.parent.exists()
    assert new.exists()


def test_erasure_takes_what_was_set_aside(emptied: Service) -> None:
    recorder, other = emptied.recorder(), emptied.recorder()
    kept = _set_aside(emptied, other, _speech(0))
    files = []
    for number in range(4):
        recorder.clock += timedelta(hours=2)
        files.append(_set_aside(emptied, recorder, _speech(number)))
    device = ["--device", str(recorder.device.device_id)]
    time_of_two = [
        *("--from", (recorder.clock - timedelta(hours=3)).isoformat()),
        *("--to", (recorder.clock - timedelta(hours=1)).isoformat()),
    ]
    assert _prune(emptied, *device, *time_of_two)["files"] == 1
    assert [file.exists() for file in files] == [True, True, False, True]
    files[0].write_bytes(b"damaged")  # it may be this device's
    assert _prune(emptied, *device)["files"] == 3
    assert kept.exists()
    point = ["--point", str(other.device.point_id)]
    assert _prune(emptied, *point, "--status", "queued")["files"] == 0
    assert _prune(emptied, *point, "--status", "all")["files"] == 1


def test_of_two_devices_at_a_register_erasure_takes_the_files_of_one(emptied: Service) -> None:
    recorder = emptied.recorder()
    first = _set_aside(emptied, recorder, _speech(1))
    with emptied.connect() as connection:
        [[second_id]] = connection.execute(
            "INSERT INTO devices (device_id, point_id, register_id, token_hash) SELECT"
            " gen_random_uuid(), point_id, register_id, 'x' FROM devices RETURNING device_id"
        ).fetchall()
    assert _prune(emptied, "--device", str(second_id))["files"] == 0
    assert first.exists()
    assert _prune(emptied, "--device", str(recorder.device.device_id))["files"] == 1
