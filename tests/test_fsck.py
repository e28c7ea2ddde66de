"""`flask ingest fsck`: rows and files compared, both ways; nothing lost by repairing."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from support import SPEECH, Recorder, Service, clean_environ, flask_ingest

from ingest_api.database import connect
from ingest_api.fsck import Check
from ingest_api.settings import Settings
from ingest_api.stored_files import StoredFiles

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
    kinds = ("missing_file", "wrong_size", "wrong_checksum", "stray_file", "stale_temporary")
    return {"seconds": _AnySeconds(), "repaired": 0} | dict.fromkeys(kinds, 0) | counts


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
    assert row["error_message"] == "file missing: found by flask ingest fsck"
    assert _fsck(emptied) == (0, [], _summary(rows=1, files=0))  # known from now on

    assert emptied.upload(recorder).status_code == 200  # and the agent can still bring it back
    assert file.read_bytes() == SPEECH


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
    assert (emptied.storage / ".lost+found" / relative).read_bytes() == b"stray"
    assert kept.read_bytes() == b"kept"
    assert _fsck(emptied)[0] == 0

    # The same once more takes nothing from what was moved before.
    stray.write_bytes(b"another of this name")
    _age(stray)
    _, [finding], _ = _fsck(emptied, "--repair")
    assert finding["detail"].endswith(f"moved to .lost+found/{relative}.1")
    assert (emptied.storage / ".lost+found" / relative).read_bytes() == b"stray"
    assert (
        emptied.storage / ".lost+found" / f"{relative}.1"
    ).read_bytes() == b"another of this name"

    # And the agent's next try completes the upload.
    assert emptied.upload(recorder, b"stray").json()["duplicate"] is False
    assert stray.read_bytes() == b"stray"


def test_a_young_file_without_a_row_may_be_arriving(emptied: Service) -> None:
    recorder = emptied.recorder()
    stray = _stray(emptied, recorder, b"stray")
    os.utime(stray)
    assert _fsck(emptied, "--repair") == (0, [], _summary(rows=0, files=1))
    assert stray.exists()


def test_files_of_strange_names_are_strays(emptied: Service) -> None:
    recorder = emptied.recorder()
    folder = _store(emptied, recorder).parent
    names = [b"caf\xe9.ogg", "ünïcode.ogg".encode(), b"new\nline", b"x" * 255]
    for name in names:
        path = Path(os.fsdecode(bytes(folder) + b"/" + name))
        path.write_bytes(b"x")
        _age(path)
    link = folder / "a-link"
    link.symlink_to("/nowhere")
    _age(link)
    status, findings, summary = _fsck(emptied, "--repair")
    assert (status, summary["stray_file"], summary["repaired"]) == (1, 5, 5)
    assert any(finding["file_path"].endswith("caf\\xe9.ogg") for finding in findings)
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


def test_a_path_that_leads_out_of_the_folder_names_no_file(emptied: Service) -> None:
    recorder = emptied.recorder()
    _store(emptied, recorder).unlink()
    (emptied.folder / "outside").write_bytes(SPEECH)
    with emptied.connect() as connection:
        connection.execute("UPDATE audio_chunks SET file_path = 'audio/../../outside'")
    status, [finding], _ = _fsck(emptied)
    assert (status, finding["kind"]) == (1, "missing_file")


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
    assert "the database failed (DATABASE_URL)" in _could_not_run(emptied, url=nowhere)
    assert "flask ingest migrate" in _could_not_run(emptied, url=new_database(migrated=False))
    assert "MIN_FREE_BYTES: must be" in _could_not_run(emptied, MIN_FREE_BYTES="some")
    assert "--grace must be at least 150s" in _could_not_run(emptied, "--grace", "149s")
    assert "'1 h' is not a duration" in _could_not_run(emptied, "--grace", "1 h")
    # A disk that is not mounted is not a million lost recordings.
    assert "Is its disk mounted" in _could_not_run(emptied, AUDIO_STORAGE_DIR=str(tmp_path))
    assert emptied.rows(recorder)[0]["status"] == "QUEUED"


def _check(service: Service, connection: Any) -> Check:
    return Check(connection, StoredFiles(service.storage), grace=3600, repair=True)


def test_an_upload_that_is_completed_while_its_file_is_moved_keeps_it(emptied: Service) -> None:
    """The stray's own agent comes back between the look at the rows and the move."""
    recorder = emptied.recorder()
    settings = Settings.from_environ({"DATABASE_URL": emptied.database_url})
    for number in range(20):
        data = b"stray %d" % number
        file = _stray(emptied, recorder, data)
        with connect(settings) as connection:
            strays = _check(emptied, connection).stray_files(lambda _: None)
            upload = threading.Thread(target=emptied.upload, args=[recorder, data])
            upload.start()
            list(strays)
            upload.join()
        assert file.read_bytes() == data
        assert len(emptied.rows(recorder)) == number + 1


def test_a_file_written_anew_in_the_last_moment_is_put_back(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)  # as fresh as an upload's that has not come to its row
    moved = StoredFiles(emptied.storage).set_aside(
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
    command = [sys.executable, "-m", "flask", "ingest", "fsck"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the last process that had it open has gone
                break
        assert process.stdout is not None
        output = process.stdout.read().decode()
    os.close(ours)
    assert b"rows" in shown
    assert b"100%" in shown
    assert output.startswith("missing_file")
    assert process.returncode == 1
