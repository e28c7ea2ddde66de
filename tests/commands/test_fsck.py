"""`flask ingest fsck`: rows and files compared, both ways; nothing lost by repairing."""

import json
import os
import pty
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import COMMAND, flask_ingest
from support.processes import read_terminal
from support.recorder import SPEECH, Recorder
from support.service import Service, clean_environ

from ingest_api.database.pool import connect
from ingest_api.settings import Settings
from ingest_api.storage.base import FileStatus, StoredFile
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.usecases.fsck import Check, Kind
from ingest_api.usecases.strays import Strays

HOURS_AGO = time.time() - 3 * 3600


def _fsck(service: Service, *options: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """The exit status, the findings and the summary."""
    result = flask_ingest(
        service.database_url, "fsck", "--json", *options, AUDIO_STORAGE_DIR=str(service.storage)
    )
    assert "Traceback" not in result.stderr
    *findings, last = [json.loads(line) for line in result.stdout.splitlines()]
    return result.returncode, findings, last["summary"]


def _store(service: Service, recorder: Recorder, data: bytes = SPEECH) -> Path:
    answer = service.upload(recorder, data)
    assert answer.status_code == 200
    return service.storage / answer.json()["stored_path"]


def _age(path: Path) -> None:
    os.utime(path, (HOURS_AGO, HOURS_AGO), follow_symlinks=False)


def _stray(service: Service, recorder: Recorder, data: bytes) -> Path:
    """A file whose upload never came to its row, some hours ago."""
    file = _store(service, recorder, data)
    with service.connect() as connection:
        connection.execute("DELETE FROM audio_chunks WHERE file_path LIKE %s", [f"%{file.name}"])
    _age(file)
    return file


def test_nothing_to_find(emptied: Service) -> None:
    assert _fsck(emptied) == (0, [], _summary(rows=0, files=0))
    recorder = emptied.recorder()
    _store(emptied, recorder)
    assert _fsck(emptied, "--checksums", "--repair") == (0, [], _summary(rows=1, files=1))
    human = flask_ingest(emptied.database_url, "fsck", AUDIO_STORAGE_DIR=str(emptied.storage))
    assert (human.returncode, human.stderr) == (0, "")
    assert human.stdout.startswith("1 rows and 1 files in 0.")
    assert human.stdout.endswith("s: clean\n")


class _AnySeconds(float):
    """Equal to every number."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float)


def _summary(**counts: int) -> dict[str, Any]:
    kinds = [kind.value for kind in Kind]
    zeros = dict.fromkeys([*kinds, "repaired", "young"], 0)
    return {"seconds": _AnySeconds()} | zeros | counts


def test_a_row_whose_file_is_gone(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    file.unlink()
    status, [finding], summary = _fsck(emptied)
    assert (status, summary) == (1, _summary(rows=1, files=0, missing_file=1))
    [row] = emptied.rows(recorder)
    assert finding == {
        "kind": "missing_file",
        "file_path": row["file_path"],
        "chunk_id": str(row["chunk_id"]),
        "detail": "the row says QUEUED, there is no file",
        "repaired": False,
    }
    assert row["status"] == "QUEUED"  # only a report

    status, [finding], summary = _fsck(emptied, "--repair")
    assert (status, finding["repaired"], summary["repaired"]) == (1, True, 1)
    [row] = emptied.rows(recorder)
    assert row["status"] == "ERROR"
    assert row["error_message"] == "file missing (was QUEUED)"
    assert _fsck(emptied) == (0, [], _summary(rows=1, files=0))  # known from now on


def test_a_chunk_that_was_given_up_is_what_it_was_when_its_file_returns(emptied: Service) -> None:
    recorder = emptied.recorder()
    files = {
        status: _store(emptied, recorder, status.encode())
        for status in ("QUEUED", "DONE", "ERROR", "PROCESSING")
    }
    with emptied.connect() as connection:
        for status, file in files.items():
            connection.execute(
                "UPDATE audio_chunks SET status = %s, error_message = %s WHERE file_path = %s",
                [
                    status,
                    "too (much) noise: 3 dB" if status == "ERROR" else None,
                    str(file.relative_to(emptied.storage)),
                ],
            )
    contents = {file: file.read_bytes() for file in files.values()}
    for file in contents:
        file.unlink()
    assert _fsck(emptied, "--repair")[2]["repaired"] == 4
    assert {row["status"] for row in emptied.rows(recorder)} == {"ERROR"}

    # The agent brings one back, and the backup the others.
    assert emptied.upload(recorder, b"QUEUED").json()["duplicate"] is True
    for file, content in contents.items():
        file.write_bytes(content)
    status, findings, _ = _fsck(emptied)
    assert (status, len(findings)) == (1, 3)
    assert {finding["kind"] for finding in findings} == {"file_returned"}
    assert _fsck(emptied, "--repair")[2]["repaired"] == 3
    found = {row["file_size_bytes"]: row for row in emptied.rows(recorder)}
    after = {size: (row["status"], row["error_message"]) for size, row in found.items()}
    assert after == {
        6: ("QUEUED", None),
        4: ("DONE", None),
        5: ("ERROR", "too (much) noise: 3 dB"),
        10: ("QUEUED", None),  # it has no worker any more
    }
    assert _fsck(emptied)[0] == 0


def test_a_file_that_was_set_aside_is_put_back_when_its_row_misses_it(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    relative = file.relative_to(emptied.storage)
    aside = emptied.storage / ".lost+found/20260101T000000Z" / relative
    aside.parent.mkdir(parents=True)
    file.rename(aside)
    wrong = emptied.storage / ".lost+found/20250101T000000Z" / relative
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(SPEECH[::-1])
    status, [finding], _ = _fsck(emptied, "--repair")
    assert (status, finding["repaired"]) == (1, True)
    assert finding["detail"].endswith(f"put back from .lost+found/20260101T000000Z/{relative}")
    assert file.read_bytes() == SPEECH
    assert emptied.rows(recorder)[0]["status"] == "QUEUED"


@pytest.mark.parametrize("what", ["a link to nothing", "a folder"])
def test_nothing_is_put_back_over_what_is_no_file(emptied: Service, what: str) -> None:
    """And so the copy stays where it is."""
    file = _store(emptied, emptied.recorder())
    aside = emptied.storage / ".lost+found/20260101T000000Z" / file.relative_to(emptied.storage)
    aside.parent.mkdir(parents=True)
    file.rename(aside)
    file.mkdir() if what == "a folder" else file.symlink_to("/not/mounted")
    status, [finding], _ = _fsck(emptied, "--repair")
    assert (status, finding["kind"]) == (1, "missing_file")
    assert "put back" not in finding["detail"]
    assert aside.read_bytes() == SPEECH


def test_very_many_missing_files_are_a_missing_disk(emptied: Service) -> None:
    recorder = emptied.recorder()
    files = [_store(emptied, recorder, b"%d" % number) for number in range(30)]
    for file in files[:25]:
        file.unlink()
    message = "25 of 30 rows in succession have no file, so none was marked"
    assert message in _could_not_run(emptied)
    for file in files[25:]:
        file.unlink()
    message = "None of the latest 30 recordings is in"
    assert message in _could_not_run(emptied)
    assert {row["status"] for row in emptied.rows(recorder)} == {"QUEUED"}
    assert _fsck(emptied, "--force")[2]["missing_file"] == 30
    assert _fsck(emptied, "--repair", "--force")[2]["repaired"] == 30
    assert {row["status"] for row in emptied.rows(recorder)} == {"ERROR"}


def test_a_row_that_a_worker_holds_is_left_to_it(emptied: Service) -> None:
    recorder = emptied.recorder()
    _store(emptied, recorder).unlink()
    with emptied.connect() as connection, connection.transaction():
        connection.execute("SELECT FROM audio_chunks FOR UPDATE")
        status, [finding], _ = _fsck(emptied, "--repair")
        assert (status, finding["repaired"]) == (1, False)
    assert emptied.rows(recorder)[0]["status"] == "QUEUED"


def test_a_file_without_a_row_is_moved_and_never_deleted(emptied: Service) -> None:
    recorder = emptied.recorder()
    kept = _store(emptied, recorder, b"kept")
    stray = _stray(emptied, recorder, b"stray")
    relative = str(stray.relative_to(emptied.storage))
    status, [finding], summary = _fsck(emptied)
    assert (status, summary) == (1, _summary(rows=1, files=2, stray_file=1))
    assert (finding["kind"], finding["file_path"]) == ("stray_file", relative)
    assert stray.exists()

    status, [finding], _ = _fsck(emptied, "--repair")
    assert (status, finding["repaired"]) == (1, True)
    assert not stray.exists()
    [aside] = (emptied.storage / ".lost+found").glob(f"*/{relative}")
    assert finding["detail"] == f"no row names it: moved to {aside.relative_to(emptied.storage)}"
    assert aside.read_bytes() == b"stray"
    made = [aside.parent, *aside.parent.parents]
    made = made[: made.index(emptied.storage)]
    assert {oct(folder.stat().st_mode & 0o777) for folder in made} == {"0o750"}
    assert kept.read_bytes() == b"kept"
    assert _fsck(emptied)[0] == 0

    # The same once more takes nothing from what was moved before.
    stray.write_bytes(b"another of this name")
    _age(stray)
    assert _fsck(emptied, "--repair")[2]["repaired"] == 1
    moved = (emptied.storage / ".lost+found").glob(f"*/{relative}")
    assert sorted(file.read_bytes() for file in moved) == [b"another of this name", b"stray"]

    # And the agent's next try completes the upload.
    assert emptied.upload(recorder, b"stray").json()["duplicate"] is False
    assert stray.read_bytes() == b"stray"


def test_a_young_file_without_a_row_may_be_arriving(emptied: Service) -> None:
    recorder = emptied.recorder()
    stray = _stray(emptied, recorder, b"stray")
    os.utime(stray)
    assert _fsck(emptied, "--repair") == (0, [], _summary(rows=0, files=1, young=1))
    assert stray.exists()
    told = flask_ingest(emptied.database_url, "fsck", AUDIO_STORAGE_DIR=str(emptied.storage))
    assert "\nNo row, but younger than --grace: 1. Their uploads may be in flight" in told.stdout


def test_files_of_strange_names_are_strays(emptied: Service) -> None:
    recorder = emptied.recorder()
    folder = _store(emptied, recorder).parent
    names = [b"caf\xe9.ogg", "ünïcode.ogg".encode(), b"new\nline", b"x" * 255]
    for name in names:
        path = Path(os.fsdecode(bytes(folder) + b"/" + name))
        path.write_bytes(b"x")
        _age(path)
    status, findings, summary = _fsck(emptied, "--repair")
    assert (status, summary["stray_file"], summary["repaired"]) == (1, 4, 4)
    shown = {finding["file_path"].rpartition("/")[2] for finding in findings}
    assert shown == {"caf\\xe9.ogg", "ünïcode.ogg", "new\\x0aline", "x" * 255}
    assert _fsck(emptied)[0] == 0
    human = flask_ingest(emptied.database_url, "fsck", AUDIO_STORAGE_DIR=str(emptied.storage))
    assert human.returncode == 0


def test_a_row_of_the_earlier_service_may_name_its_file_otherwise(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    other = file.with_name("recording-7.ogg")
    file.rename(other)
    _age(other)
    with emptied.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET sha256 = NULL, file_path = %s",
            [str(other.relative_to(emptied.storage))],
        )
    assert _fsck(emptied, "--repair", "--checksums") == (0, [], _summary(rows=1, files=1))


def test_a_shop_that_was_moved_behind_a_symbolic_link_is_left_alone(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    shop = emptied.storage / "audio" / str(recorder.device.point_id)
    elsewhere = shop.rename(emptied.folder / "elsewhere")
    shop.symlink_to(elsewhere)
    _age(shop)
    assert _fsck(emptied, "--repair") == (0, [], _summary(rows=1, files=0))
    assert file.read_bytes() == SPEECH
    shutil.rmtree(elsewhere)


def test_a_row_may_spell_its_path_otherwise(emptied: Service) -> None:
    recorder = emptied.recorder()
    files = [_store(emptied, recorder, b"%d" % number) for number in range(4)]
    paths = [str(file.relative_to(emptied.storage)) for file in files]
    spelled = (f"./{paths[0]}", str(files[1]), paths[2].replace("/", "//", 1))
    renamed = files[3].with_name("recording-7.ogg")
    files[3].rename(renamed)
    with emptied.connect() as connection:
        for path, other in zip(paths, [*spelled, f"{renamed}"], strict=True):
            connection.execute(
                "UPDATE audio_chunks SET sha256 = NULL, file_path = %s WHERE file_path = %s",
                [other, path],
            )
    for file in (*files[:3], renamed):
        _age(file)
    assert _fsck(emptied, "--repair") == (0, [], _summary(rows=4, files=4))


def test_a_file_that_cannot_be_read_stops_nothing_else(emptied: Service) -> None:
    """/proc/self/mem is a file whose size can be told and whose bytes cannot be read."""
    recorder = emptied.recorder()
    unreadable, damaged = _store(emptied, recorder, b"1"), _store(emptied, recorder, b"2")
    unreadable.unlink()
    unreadable.symlink_to("/proc/self/mem")
    damaged.write_bytes(b"3")
    with emptied.connect() as connection:
        connection.execute(
            "ALTER TABLE audio_chunks DROP CONSTRAINT audio_chunks_not_empty;"
            "UPDATE audio_chunks SET file_size_bytes = 0 WHERE file_path LIKE "
            f"'%{unreadable.name}'"
        )
        status, findings, _ = _fsck(emptied, "--checksums", "--repair")
        connection.execute("TRUNCATE audio_chunks")
        connection.execute(
            "ALTER TABLE audio_chunks ADD CONSTRAINT audio_chunks_not_empty"
            " CHECK (sha256 IS NULL OR file_size_bytes > 0)"
        )
    kinds = {finding["kind"]: finding["detail"] for finding in findings}
    assert status == 1
    assert kinds["unreadable"] == "Input/output error"
    assert kinds["wrong_checksum"].startswith("SHA-256 ")


class _Damaged(DiskUpkeep):
    """Lists the files, except those of a damaged part of the disk."""

    def list(self, prefix: str, after: str = "") -> Iterator[StoredFile]:
        for file in super().list(prefix, after):
            if "damaged" in file.path or file.size == len(b"damaged"):
                self.unreadable[file.path] = "Input/output error"
            else:
                yield file


def test_what_a_damaged_disk_cannot_list_is_found_once_and_stops_nothing(emptied: Service) -> None:
    recorder = emptied.recorder()
    _store(emptied, recorder, b"damaged")  # of this one its row tells
    stray, lost = _stray(emptied, recorder, b"stray"), _stray(emptied, recorder, b"lost")
    lost.rename(lost.with_name("damaged.ogg"))
    left = [emptied.storage / ".incoming" / name for name in ("damaged", "left")]
    for file in left:
        file.write_bytes(b"1")
        _age(file)
    settings = Settings.from_environ({"DATABASE_URL": emptied.database_url})
    with connect(settings) as connection:
        check = Strays(connection, _Damaged(emptied.storage), grace=3600)
        found = [*check.stray_files(lambda _: None), *check.temporary_files()]
    assert [(finding.kind, Path(finding.file_path).name) for finding in found] == [
        (Kind.STRAY_FILE, stray.name),
        (Kind.UNREADABLE, "damaged.ogg"),
        (Kind.STALE_TEMPORARY, "left"),
        (Kind.UNREADABLE, "damaged"),
    ]
    for file in left:
        file.unlink()


@pytest.mark.parametrize("path", ["audio/../../outside", "another chunk's", "audio"])
def test_a_path_that_leads_elsewhere_is_corrected(emptied: Service, path: str) -> None:
    recorder = emptied.recorder()
    files = [_store(emptied, recorder, data) for data in (b"1", b"2")]
    own, other = (str(file.relative_to(emptied.storage)) for file in files)
    os.utime(files[0], (HOURS_AGO, HOURS_AGO))
    with emptied.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET file_path = %s WHERE file_path = %s",
            [other if path == "another chunk's" else path, own],
        )
    status, [finding], _ = _fsck(emptied, "--repair")  # and no stray
    assert (status, finding["kind"], finding["repaired"]) == (1, "foreign_path", True)
    assert {row["file_path"] for row in emptied.rows(recorder)} == {own, other}
    assert all(file.exists() for file in files)
    assert _fsck(emptied)[:2] == (0, [])


def test_damage_is_reported_and_left_alone(emptied: Service) -> None:
    recorder = emptied.recorder()
    short, flipped = _store(emptied, recorder, b"short"), _store(emptied, recorder, b"flipped")
    short.write_bytes(b"shor")
    flipped.write_bytes(b"fLipped")
    status, [finding], summary = _fsck(emptied, "--repair")
    assert (status, summary) == (1, _summary(rows=2, files=2, wrong_size=1))
    assert finding["detail"] == "4 bytes, not 5"
    status, _, summary = _fsck(emptied, "--repair", "--checksums")
    assert (status, summary) == (1, _summary(rows=2, files=2, wrong_size=1, wrong_checksum=1))
    assert (short.read_bytes(), flipped.read_bytes()) == (b"shor", b"fLipped")
    assert {row["status"] for row in emptied.rows(recorder)} == {"QUEUED"}
    for data in (b"short", b"flipped"):  # the agent's copy heals both
        assert emptied.upload(recorder, data).status_code == 200
    assert _fsck(emptied, "--checksums")[0] == 0


def test_what_a_killed_worker_was_writing_is_removed_after_the_grace(emptied: Service) -> None:
    old, young = emptied.storage / ".incoming/old", emptied.storage / ".incoming/young"
    _store(emptied, emptied.recorder())
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    _age(old)
    status, [finding], summary = _fsck(emptied)
    assert (status, summary) == (1, _summary(rows=1, files=1, stale_temporary=1))
    assert finding["file_path"] == ".incoming/old"
    assert old.exists()
    assert _fsck(emptied, "--repair")[2]["repaired"] == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert _fsck(emptied)[0] == 0


def test_what_retention_is_removing_is_no_finding(emptied: Service) -> None:
    recorder = emptied.recorder()
    with_file, without_file = _store(emptied, recorder, b"1"), _store(emptied, recorder, b"2")
    without_file.unlink()
    _age(with_file)
    with emptied.connect() as connection:
        connection.execute("UPDATE audio_chunks SET status = 'PRUNED'")
    assert _fsck(emptied, "--repair") == (0, [], _summary(rows=2, files=1))


def _could_not_run(service: Service, *options: str, **settings: str) -> str:
    settings = {"AUDIO_STORAGE_DIR": str(service.storage)} | settings
    result = flask_ingest(
        settings.pop("url", service.database_url), "fsck", "--repair", *options, **settings
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_it_says_why_it_could_not_run(emptied: Service, new_database, tmp_path: Path) -> None:
    recorder = emptied.recorder()
    _store(emptied, recorder)
    nowhere = "postgresql://127.0.0.1:1/x"
    assert "The database failed (DATABASE_URL)" in _could_not_run(emptied, url=nowhere)
    assert "flask ingest migrate" in _could_not_run(emptied, url=new_database(migrated=False))
    assert "MIN_FREE_BYTES: must be" in _could_not_run(emptied, MIN_FREE_BYTES="some")
    assert "--grace must be at least 150s" in _could_not_run(emptied, "--grace", "149s")
    assert "'1 h' is not a duration" in _could_not_run(emptied, "--grace", "1 h")
    # A disk that is not mounted is not a million lost recordings.
    assert "Mount its disk" in _could_not_run(emptied, AUDIO_STORAGE_DIR=str(tmp_path))
    (tmp_path / "audio").mkdir()
    assert emptied.rows(recorder)[0]["status"] == "QUEUED"


def _strays(service: Service, connection: Any) -> Strays:
    return Strays(connection, DiskUpkeep(service.storage), grace=3600, repair=True)


class _Busy(DiskUpkeep):
    """While fsck looks, something happens: before the nth look at a file, and before it is put
    back."""

    def __init__(self, root: Path, events: dict[int | str, Callable[[], object]]) -> None:
        super().__init__(root)
        self._events = events
        self._looks = 0

    def status(self, file_path: str) -> FileStatus | None:
        self._looks += 1
        self._events.get(self._looks, lambda: None)()
        return super().status(file_path)

    def put_back(self, row: Any) -> str | None:
        self._events.get("put back", lambda: None)()
        return super().put_back(row)


def _rows_found(
    service: Service, events: dict[int | str, Callable[[], object]]
) -> list[tuple[str, bool]]:
    settings = Settings.from_environ({"DATABASE_URL": service.database_url})
    with connect(settings) as connection:
        run = Check(
            connection,
            _Busy(service.storage, events),
            waiting_status="QUEUED",
            repair=True,
        )
        return [(finding.kind.value, finding.repaired) for finding in run.rows(lambda _: None)]


def test_what_looks_wrong_is_looked_at_again(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    aside = file.rename(emptied.folder / "aside")

    def bring() -> None:  # as an upload does
        file.write_bytes(SPEECH)

    def take() -> None:
        file.unlink()

    def prune() -> None:
        with emptied.connect() as connection:
            connection.execute("UPDATE audio_chunks SET status = 'PRUNED'")

    def statuses() -> list[str]:
        return [row["status"] for row in emptied.rows(recorder)]

    # It is there at the second look.
    assert _rows_found(emptied, {2: bring}) == []
    take()
    # It comes while the row is being marked: the row is what it was.
    assert _rows_found(emptied, {3: bring}) == [("missing_file", False)]
    assert statuses() == ["QUEUED"]
    take()
    # Retention came between the looks, or in the last moment.
    assert _rows_found(emptied, {2: prune}) == []
    with emptied.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # no trigger says no
        connection.execute("UPDATE audio_chunks SET status = 'DONE'")
    assert _rows_found(emptied, {"put back": prune}) == [("missing_file", False)]
    assert statuses() == ["PRUNED"]
    with emptied.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE audio_chunks SET status = 'DONE'")
    assert _rows_found(emptied, {}) == [("missing_file", True)]
    assert statuses() == ["ERROR"]
    aside.unlink()


def test_a_stray_whose_row_came_in_the_last_moment_stays(emptied: Service) -> None:
    recorder = emptied.recorder()
    strays = [_stray(emptied, recorder, b"stray %d" % number) for number in range(2)]
    settings = Settings.from_environ({"DATABASE_URL": emptied.database_url})
    with connect(settings) as connection:
        found = _strays(emptied, connection).stray_files(lambda _: None)
        first = next(found).file_path
        [other] = [file for file in strays if not str(file).endswith(first)]
        for number in range(2):
            emptied.upload(recorder, b"stray %d" % number)
        _age(other)  # so that only its row speaks for it
        assert list(found) == []
    assert other.exists()
    assert len(emptied.rows(recorder)) == len(emptied.files(recorder)) == 2


def test_other_bytes_in_place_of_a_lost_file_are_not_taken_for_it(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder, b"right")
    file.unlink()
    _fsck(emptied, "--repair")
    file.write_bytes(b"wrong")
    status, [finding], _ = _fsck(emptied, "--repair")
    assert (status, finding["kind"]) == (1, "wrong_checksum")
    assert emptied.rows(recorder)[0]["status"] == "ERROR"


def test_a_workers_own_words_are_not_taken_for_fscks(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    with emptied.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET status = 'ERROR', error_message = 'file missing in ffmpeg'"
        )
    assert _fsck(emptied, "--repair")[0] == 0
    file.unlink()
    assert _fsck(emptied)[2]["missing_file"] == 1


def test_an_upload_that_is_completed_while_its_file_is_moved_keeps_it(emptied: Service) -> None:
    """The stray's own agent comes back between the look at the rows and the move."""
    recorder = emptied.recorder()
    settings = Settings.from_environ({"DATABASE_URL": emptied.database_url})
    for number in range(20):
        data = b"stray %d" % number
        file = _stray(emptied, recorder, data)
        with connect(settings) as connection:
            strays = _strays(emptied, connection).stray_files(lambda _: None)
            upload = threading.Thread(target=emptied.upload, args=[recorder, data])
            upload.start()
            list(strays)
            upload.join()
        assert file.read_bytes() == data
        assert len(emptied.rows(recorder)) == number + 1


def test_a_file_written_anew_in_the_last_moment_is_put_back(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)  # as fresh as an upload's that has not come to its row
    moved = DiskUpkeep(emptied.storage).set_aside(
        str(file.relative_to(emptied.storage)), grace=3600
    )
    assert moved is None
    assert file.read_bytes() == SPEECH
    assert file.stat().st_nlink == 1


def test_it_shows_a_bar_to_a_person(emptied: Service) -> None:
    recorder = emptied.recorder()
    _store(emptied, recorder).unlink()
    ours, theirs = pty.openpty()
    environ = clean_environ(
        DATABASE_URL=emptied.database_url, AUDIO_STORAGE_DIR=str(emptied.storage), TERM="xterm"
    )
    command = [*COMMAND, "fsck"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = read_terminal(ours)
        assert process.stdout is not None
        output = process.stdout.read().decode()
    assert "rows" in shown
    assert "100%" in shown
    assert output.startswith("missing_file")
    assert process.returncode == 1
