"""200 means: synced, named, synced again, committed. The order of these steps, as taken."""

import math
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import psycopg
from lab.postgres import LocalPostgres
from support.commands import flask_ingest
from support.recorder import SPEECH, Recorder
from support.service import Service
from werkzeug.datastructures import MultiDict

from ingest_api.database.pool import Database, connect
from ingest_api.models.chunks import ChunkFile, UploadForm
from ingest_api.models.devices import NewDevice
from ingest_api.schemas.uploads import load_upload
from ingest_api.settings import Settings
from ingest_api.storage.disk.folders import REMEMBERED_FOLDERS, Folders
from ingest_api.storage.disk.storage import DiskStorage
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import file_path_for
from ingest_api.usecases import devices
from ingest_api.usecases.replays import Replays
from ingest_api.usecases.uploads import Uploads


def _settings(tmp_path: Any, database_url: str) -> Settings:
    return Settings.from_environ(
        {"DATABASE_URL": database_url, "AUDIO_STORAGE_DIR": str(tmp_path), "MIN_FREE_BYTES": "0"}
    )


def _recorder(settings: Settings) -> tuple[Recorder, UploadForm]:
    with connect(settings) as connection:
        device = devices.create_device(
            connection, NewDevice(uuid4(), uuid4(), uuid4()), token="a-token-of-a-test"
        )
    recorder = Recorder(device, "a-token-of-a-test")
    return recorder, load_upload(MultiDict(recorder.form()), None)


def test_the_steps_come_in_the_order_of_the_promise(tmp_path: Any, database_url: str) -> None:
    settings = _settings(tmp_path, database_url)
    recorder, form = _recorder(settings)
    database = Database(settings)
    store = DiskStorage(settings.audio_storage_dir)
    uploads = Uploads(store, database, None, waiting_status="QUEUED", max_bytes=len(SPEECH))
    steps: list[str] = []

    def observe(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function in (os.fsync, os.link):
            steps.append(f"{function.__name__} in {frame.f_code.co_qualname}")
        if event == "c_return" and function in (os.fsync, os.link):
            steps.append("done")
        if event == "call" and frame.f_code.co_qualname == "insert_chunk":
            steps.append("insert_chunk")

    try:
        with uploads.receive() as incoming:
            incoming.write(SPEECH)
            sys.setprofile(observe)
            uploads.accept(recorder.device, form, incoming)
            sys.setprofile(None)
    finally:
        sys.setprofile(None)
        database.close()
    entries = ["fsync in sync_path", "done"] * 5  # of audio, point, register, day, hour
    assert steps == [
        "fsync in TemporaryFile.sync",
        "done",
        "link in TemporaryFile.link",
        "link in TemporaryFile.link",  # now that the folders are there
        "done",
        *entries,
        "fsync in sync_path",
        "done",
        "insert_chunk",
    ]
    assert (tmp_path / file_path_for(form.recording, _only_id(settings))).read_bytes() == SPEECH


def test_a_receipt_without_the_bytes_waits_for_the_name(tmp_path: Any, database_url: str) -> None:
    """Another process may be storing the file again at this moment."""
    settings = _settings(tmp_path, database_url)
    recorder, form = _recorder(settings)
    database = Database(settings)
    uploads = Uploads(
        DiskStorage(tmp_path), database, None, waiting_status="QUEUED", max_bytes=len(SPEECH)
    )
    replays = Replays(DiskStorage(tmp_path), database)
    steps: list[str] = []

    def observe(frame: FrameType, event: str, function: Any) -> None:
        if event == "return" and frame.f_code.co_name in {"confirm_chunk", "status"}:
            steps.append(frame.f_code.co_name)
        if event == "c_return" and function is os.fsync:
            steps.append("fsync")

    try:
        with uploads.receive() as incoming:
            incoming.write(SPEECH)
            sha256 = incoming.sha256
            assert replays.confirm(recorder.device, form, sha256) is None
            uploads.accept(recorder.device, form, incoming)
        sys.setprofile(observe)
        assert replays.confirm(recorder.device, form, sha256) is not None
    finally:
        sys.setprofile(None)
        database.close()
    assert steps[0] == "confirm_chunk"
    assert [step for step in steps[1:] if step == "status"]
    assert steps[-6:] == ["fsync"] * 6  # the folders above, as this process knows none, and its own


def _only_id(settings: Settings) -> Any:
    with connect(settings) as connection:
        return connection.execute("SELECT chunk_id FROM audio_chunks").fetchone()[0]


def test_an_upload_is_two_statements_and_one_commit(start_service, tmp_path: Any) -> None:
    with LocalPostgres(
        tmp_path, settings={"log_statement": "all", "autovacuum": "off"}
    ) as postgres:
        assert flask_ingest(postgres.url(), "migrate").returncode == 0
        service = start_service(postgres.url(), WORKERS="1")
        recorder = service.recorder()
        service.upload(recorder, b"so that the connection is open")
        log = tmp_path / "postgres.log"
        before = log.stat().st_size
        committed = _commits(postgres)
        assert service.upload(recorder, b"the upload to look at").status_code == 200
        with log.open("rb") as file:
            file.seek(before)
            lines = [line for line in file.read().decode().splitlines() if " LOG: " in line]
        statements = [line for line in lines if "the test's own" not in line]
        assert len(statements) == 2, statements
        assert "-- The device that a bearer token belongs to" in statements[0]
        assert "-- Record a chunk" in statements[1]
        # Of the two transactions only one wrote: the other has no commit record.
        assert _commits(postgres) - committed == 1


def _commits(postgres: LocalPostgres) -> int:
    """Transactions that were given an id, that is, that changed something."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        row = connection.execute(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint -- the test's own"
        ).fetchone()
        return row[0]


def test_an_upload_whose_row_fails_is_completed_by_the_next_try(
    start_service,
) -> None:
    service = start_service()
    recorder = service.recorder()
    with service.connect() as connection:
        connection.execute(
            "ALTER TABLE audio_chunks ADD CONSTRAINT refuse CHECK (channels > 1) NOT VALID"
        )
        assert service.upload(recorder).status_code == 500
        assert len(service.files(recorder)) == 1  # without a row: harmless
        connection.execute("ALTER TABLE audio_chunks DROP CONSTRAINT refuse")
    answer = service.upload(recorder).json()
    assert answer["duplicate"] is False
    assert service.files(recorder) == [service.storage / answer["stored_path"]]
    assert len(service.rows(recorder)) == 1


def test_what_fsck_moves_goes_to_durable_folders(tmp_path: Path) -> None:
    files = DiskUpkeep(tmp_path)
    (tmp_path / "audio/a").mkdir(parents=True)
    (tmp_path / "audio/a/b.ogg").write_bytes(b"1")
    steps: list[str] = []

    def observe(frame: FrameType, event: str, function: Any) -> None:
        if event == "call" and frame.f_code.co_name == "sync_path":
            steps.append(str(frame.f_locals["path"].relative_to(tmp_path)))
        elif event == "c_call" and function in (os.link, os.rename, os.unlink):
            steps.append(function.__name__)

    sys.setprofile(observe)
    try:
        aside = files.set_aside("audio/a/b.ogg", grace=-1)
        (tmp_path / "audio/a").rmdir()
        (tmp_path / "audio").rmdir()
        row = _earlier_row("audio/a/b.ogg")
        assert files.put_back(row) == aside
    finally:
        sys.setprofile(None)
    assert aside
    run = str(Path(aside).parents[2])
    into = [".", ".lost+found", run, f"{run}/audio"]
    assert steps == [*into, "rename", ".", "audio", "link", "audio/a", "unlink"]
    assert (tmp_path / "audio/a/b.ogg").read_bytes() == b"1"


def _earlier_row(path: str) -> ChunkFile:
    ids = (uuid4(), uuid4(), uuid4())
    return ChunkFile(*ids, datetime.now(UTC), path, 1, None, "ERROR", datetime.now(UTC))


def test_the_folders_it_remembers_are_bounded(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders._remembered_until = math.inf
    folders._durable.update(str(number) for number in range(REMEMBERED_FOLDERS - 1))
    folders.ensure(tmp_path / "a", datetime.now(UTC))
    assert len(folders._durable) == REMEMBERED_FOLDERS
    folders.ensure(tmp_path / "b", datetime.now(UTC))
    assert folders._durable == {str(tmp_path / "b")}


def test_a_folder_that_is_removed_takes_what_is_remembered_with_it(tmp_path: Path) -> None:
    """Whoever finds one missing cannot know which others are; those that are there are synced."""
    folders, now = Folders(tmp_path), datetime.now(UTC)
    for hour in (tmp_path / "audio/day/10", tmp_path / "audio/day/11"):
        folders.ensure(hour, now)
    assert len(folders._durable) == 4  # a new hour forgets none of the others
    (tmp_path / "audio/day/11").rmdir()
    (tmp_path / "audio/day/10").rmdir()
    (tmp_path / "audio/day").rmdir()
    folders.make(tmp_path / "audio/day/12")
    assert (tmp_path / "audio/day/12").is_dir()
    assert folders._durable == set()


def test_a_new_storage_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path / "a" / "b")
    storage.prepare()
    storage.prepare()
    storage.probe()
    assert oct((tmp_path / "a" / "b").stat().st_mode & 0o777) == "0o750"


def test_stored_files_are_for_the_owner_and_the_group(service: Service) -> None:
    recorder = service.recorder()
    service.upload(recorder)
    [file] = service.files(recorder)
    assert oct(file.stat().st_mode & 0o777) == "0o640"
    assert file.stat().st_nlink == 1
