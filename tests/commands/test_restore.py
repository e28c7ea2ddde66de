"""`flask ingest restore`: what comes back is what was there, whatever happens meanwhile."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from support.backups import (
    all_rows,
    assert_whole,
    environ,
    ingest,
    ingest_process,
    kill_at,
    listed,
    make_backup,
    newest_migration_forgotten,
    prepared,
    steps_of,
    stored,
)
from support.processes import eventually
from support.recorder import Recorder
from support.service import Service

from ingest_api.database.migrations import RestoreUnfinished, refuse_old_schema
from ingest_api.database.pool import connect
from ingest_api.database.queries.backups import list_relations
from ingest_api.settings import Settings
from ingest_api.storage.layout import LOCK

pytestmark = pytest.mark.slow


@pytest.fixture
def recorder(emptied: Service) -> Recorder:
    return emptied.recorder()


@pytest.fixture
def folder(tmp_path: Path, emptied: Service) -> Path:
    return prepared(tmp_path / "backups", emptied)


@pytest.fixture
def fresh(tmp_path: Path, new_database: Callable[..., str]) -> Service:
    """A machine with an empty database and an empty storage, on which nothing runs yet."""
    return _fresh(tmp_path / "fresh", new_database)


def _fresh(folder: Path, new_database: Callable[..., str]) -> Service:
    service = Service(folder, new_database(migrated=False))
    service.storage.mkdir(parents=True)
    return service


@pytest.fixture
def backup(emptied: Service, recorder: Recorder, folder: Path) -> Path:
    """Of ten chunks."""
    for number in range(10):
        assert emptied.upload(recorder, b"chunk %d" % number).status_code == 200
    path: Path = make_backup(emptied, folder)["path"]
    return path


def _restore(fresh: Service, backup: Path, *options: str) -> None:
    result = ingest(fresh, "restore", backup, *options)
    assert result.returncode == 0, result.stderr


def _refused(fresh: Service, backup: Path, *options: str, **settings: str) -> str:
    """Why; nothing of the database is there then."""
    result = ingest(fresh, "restore", backup, *options, **settings)
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def _is_empty(database_url: str) -> bool:
    with psycopg.connect(database_url) as connection:
        return not list_relations(connection)


def _assert_clean(service: Service) -> None:
    result = ingest(service, "fsck", "--checksums", "--json", "--grace", "150s")
    assert result.returncode == 0, result.stdout + result.stderr


def test_it_brings_everything_back(emptied: Service, backup: Path, fresh: Service) -> None:
    rows = all_rows(emptied.database_url)
    result = ingest(fresh, "restore", backup)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("restored 10 chunks as of 20")
    assert "10 of 10 files (0.0 MB) were copied" in result.stdout
    restored = all_rows(fresh.database_url)
    fenced = [(chunk.replace(",1000,1000,", ",0,0,"),) for (chunk,) in restored["audio_chunks"]]
    assert restored | {"audio_chunks": fenced} == rows
    assert stored(fresh.storage) == set(listed(backup))
    paths = [path for path in fresh.storage.rglob("*") if path.name != LOCK]
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in paths}
    assert modes == {(True, 0o750), (False, 0o640)}
    _assert_clean(fresh)


def test_the_service_goes_on_where_it_was(
    emptied: Service, recorder: Recorder, backup: Path, fresh: Service
) -> None:
    _restore(fresh, backup)
    fresh.start()
    try:
        again = fresh.upload(recorder, b"chunk 3")
        assert (again.status_code, again.json()["duplicate"]) == (200, True)
        new = fresh.upload(recorder, b"new")
        assert (new.status_code, new.json()["duplicate"]) == (200, False)
        assert fresh.health()[0] == 200
    finally:
        assert fresh.stop() == 0
    _assert_clean(fresh)


def test_a_backup_that_is_made_under_load_is_of_one_moment(
    start_service: Callable[..., Service], tmp_path: Path, new_database: Callable[..., str]
) -> None:
    """Uploads by four devices, and a retention that tries to remove what was received, go on while
    three backups are made. Each is restored and compared."""
    service = start_service()
    recorders = [service.recorder() for _ in range(4)]
    folder = prepared(tmp_path / "backups", service)
    over = threading.Event()

    def upload(recorder: Recorder) -> None:
        number = 0
        while not over.is_set():
            number += 1
            answer = service.upload(recorder, b"%d" % number * 2000)
            assert answer.status_code == 200, answer.text

    def prune() -> None:
        while not over.is_set():
            device = ["--device", str(recorders[0].device.device_id), "--status", "all"]
            ingest_process(service, "prune", *device, "--rate", "0", "--batch", "5")

    with ThreadPoolExecutor() as threads:
        under_way = [threads.submit(upload, recorder) for recorder in recorders]
        under_way.append(threads.submit(prune))
        try:
            eventually(lambda: len(service.rows(recorders[3])) > 20, 30)
            made = [make_backup(service, folder) for _ in range(3)]
        finally:
            over.set()
            for task in under_way:
                task.result()
    assert [told["missing"] for told in made] == [0, 0, 0]
    assert made[2]["chunks"] > made[0]["chunks"] > 20
    assert len(assert_whole(folder)) == 3
    for number, told in enumerate(made):
        fresh = _fresh(tmp_path / f"fresh-{number}", new_database)
        _restore(fresh, told["path"], "--checksums")
        _assert_clean(fresh)
        with fresh.connect() as connection:
            paths = connection.execute(
                "SELECT file_path FROM audio_chunks WHERE status <> 'PRUNED'"
            ).fetchall()
        assert {path for [path] in paths} == set(listed(told["path"])) == stored(fresh.storage)
        assert len(paths) == told["chunks"]


def test_what_is_interrupted_is_run_again(
    backup: Path, tmp_path: Path, new_database: Callable[..., str]
) -> None:
    """Killed at ten places, from the first to the last. No row ever points at nothing."""
    steps = steps_of(_fresh(tmp_path / "steps", new_database), "restore", backup)
    for place in sorted({1 + round(n * (steps - 1) / 9) for n in range(10)}):
        fresh = _fresh(tmp_path / f"fresh-{place}", new_database)
        kill_at(fresh, place, "restore", backup)
        assert _is_empty(fresh.database_url)
        _restore(fresh, backup)
        assert stored(fresh.storage) == set(listed(backup))
        _assert_clean(fresh)


def test_the_database_must_be_empty_and_nobody_elses(
    emptied: Service, backup: Path, fresh: Service
) -> None:
    told = _refused(emptied, backup)
    assert "is not empty: it has audio_chunks, devices, maintenance_runs, ..." in told
    assert "createdb --owner=ingest --template=template0" in told
    with psycopg.connect(fresh.database_url, application_name="a worker"):
        told = _refused(fresh, backup)
    assert "Others are connected to the database" in told
    assert "a worker" in told
    assert stored(fresh.storage) == set()
    eventually(lambda: ingest(fresh, "restore", backup).returncode == 0)


def test_the_disk_must_be_there(backup: Path, fresh: Service) -> None:
    fresh.storage.rmdir()
    assert "Mount its disk" in _refused(fresh, backup)
    fresh.storage.mkdir()
    assert "There is not enough space in" in _refused(
        fresh, backup, MIN_FREE_BYTES="1000000000000000"
    )
    assert _is_empty(fresh.database_url)


def test_only_a_complete_backup_is_restored(backup: Path, fresh: Service) -> None:
    partial = backup.with_suffix(".partial")
    shutil.copytree(backup, partial)
    for path in (partial, backup.parent, backup.parent / "nothing", backup.parent / "storage"):
        assert "is not a complete backup" in _refused(fresh, path)
    for name in ("database.dump", "files", "backup.json"):
        data = (backup / name).read_bytes()
        (backup / name).write_bytes(data[: len(data) // 2])
        assert f"{name} is damaged" in _refused(fresh, backup)
        (backup / name).write_bytes(data)
    assert stored(fresh.storage) == set()
    _restore(fresh, backup)


def test_a_copy_of_the_folder_is_as_good(backup: Path, fresh: Service, tmp_path: Path) -> None:
    shutil.copytree(backup.parent, tmp_path / "copy")
    (tmp_path / "copy" / ".ingest-backup").unlink()
    shutil.rmtree(backup.parent)
    _restore(fresh, tmp_path / "copy" / backup.name)
    _assert_clean(fresh)


def test_files_that_the_backup_has_not_as_they_were_keep_it_from_the_database(
    backup: Path, fresh: Service
) -> None:
    lost, short, bad, *_ = sorted(listed(backup))
    storage = backup.parent / "storage"
    (storage / lost).unlink()
    (storage / short).write_bytes(b"chunk")
    (storage / bad).write_bytes(b"CHUNK 0")
    told = _refused(fresh, backup)
    assert f"{lost}  there is no file" in told
    assert f"{short}  5 bytes, not 7" in told
    assert f"{bad}  SHA-256 " in told
    assert "3 files of the backup are damaged, so the database was not restored" in told
    assert _is_empty(fresh.database_url)
    _restore(fresh, backup, "--force")
    assert len(stored(fresh.storage)) == 7
    result = ingest(fresh, "fsck", "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout.splitlines()[-1])["summary"]["missing_file"] == 3


def test_files_that_are_there_are_left_alone_and_damaged_ones_replaced(
    emptied: Service, backup: Path, fresh: Service
) -> None:
    shutil.copytree(emptied.storage, fresh.storage, dirs_exist_ok=True)
    good, short, bad, *_ = sorted(listed(backup))
    (fresh.storage / short).write_bytes(b"")
    (fresh.storage / bad).write_bytes(b"CHUNK 0")
    newer = fresh.storage / "audio" / "received-later.ogg"
    newer.write_bytes(b"precious")
    inode = (fresh.storage / good).stat().st_ino
    result = ingest(fresh, "restore", backup, "--checksums", "--json")
    assert json.loads(result.stdout)["copied"] == {"files": 2, "bytes": 14}
    assert (fresh.storage / good).stat().st_ino == inode
    assert newer.read_bytes() == b"precious"
    _assert_clean(fresh)  # for it is young yet


def test_a_backup_with_missing_files_is_restored_as_it_was(
    emptied: Service, recorder: Recorder, backup: Path, fresh: Service
) -> None:
    lost = emptied.rows(recorder)[0]["file_path"]
    (emptied.storage / lost).unlink()
    told = make_backup(emptied, backup.parent, "--keep", "1", "--full", status=0)
    assert told["missing"] == 0  # the backups have it still: and so it can be put back
    assert (backup.parent / "storage" / lost).exists()
    new = emptied.upload(recorder, b"new").json()["stored_path"]
    (emptied.storage / new).unlink()
    told = make_backup(emptied, backup.parent, status=1)
    result = ingest(fresh, "restore", told["path"])
    assert result.returncode == 0
    assert "1 rows have no file: flask ingest fsck --repair marks them as ERROR" in result.stderr
    assert (fresh.storage / lost).exists()


def test_a_hostile_list_leads_nowhere(backup: Path, fresh: Service) -> None:
    (backup.parent / "x").write_bytes(b"abc")
    lines = [b"../x\t3\t", b"/etc/passwd\t3\t", b"audio/../../x\t3\t"]
    (backup / "files").write_bytes(b"".join(line + b"\n" for line in sorted(lines)))
    summary = json.loads((backup / "backup.json").read_text())
    summary["list_sha256"] = hashlib.sha256((backup / "files").read_bytes()).hexdigest()
    (backup / "backup.json").write_text(json.dumps(summary))
    told = _refused(fresh, backup)
    assert told.count("leads out of AUDIO_STORAGE_DIR") == 3
    assert not (fresh.folder / "x").exists()
    assert stored(fresh.storage) == set()


def test_nothing_is_written_over_a_link(backup: Path, fresh: Service, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (fresh.storage / "audio").symlink_to(tmp_path / "elsewhere")
    assert "is reached through a symbolic link" in _refused(fresh, backup)
    assert stored(tmp_path / "elsewhere") == set()


def test_an_older_schema_is_restored_and_then_migrated(
    emptied: Service, recorder: Recorder, folder: Path, fresh: Service
) -> None:
    assert emptied.upload(recorder, b"first").status_code == 200
    with newest_migration_forgotten(emptied) as newest:
        path = make_backup(emptied, folder)["path"]
    _restore(fresh, path)
    assert ingest(fresh, "fsck").returncode == 2
    assert ingest(fresh, "migrate").stdout == f"applied {newest.name}\n"
    _assert_clean(fresh)


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_the_scripts_say_what_they_do(name: str) -> None:
    script = Path(__file__).parents[2] / "deploy" / name
    told = subprocess.run([script, "--help"], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"Usage: sudo deploy/{name} ")
    if name == "restore":
        told = subprocess.run([script], capture_output=True, text=True)
        assert (told.returncode, told.stdout) == (2, "")
        assert "no backup: pass DIR/TIME" in told.stderr


def test_a_backup_of_a_newer_version_is_refused_before_anything_is_done(
    backup: Path, fresh: Service
) -> None:
    summary = json.loads((backup / "backup.json").read_text())
    (backup / "backup.json").write_text(json.dumps(summary | {"migration": 9999}))
    assert "whose database has migration 9999" in _refused(fresh, backup)
    assert stored(fresh.storage) == set()
    assert _is_empty(fresh.database_url)


def test_leases_of_before_the_loss_are_void_and_unfinished_chunks_wait_again(
    emptied: Service, recorder: Recorder, folder: Path, fresh: Service
) -> None:
    """The queue goes on with fresh attempts, none of which counts against MAX_ATTEMPTS."""
    for number in range(4):
        assert emptied.upload(recorder, b"chunk %d" % number).status_code == 200
    with emptied.connect() as connection:
        ids = [row["chunk_id"] for row in emptied.rows(recorder)]
        move = "UPDATE audio_chunks SET status = %s WHERE chunk_id = %s"
        for chunk_id, statuses in zip(
            ids, [[], ["PROCESSING"], ["PROCESSING", "DONE"], ["PROCESSING", "ERROR"]], strict=True
        ):
            for status in statuses:
                connection.execute(move, [status, chunk_id])
    path = make_backup(emptied, folder)["path"]
    result = ingest(fresh, "restore", path, QUEUE_BACKEND="redis", REDIS_URL="redis://localhost")
    assert result.returncode == 0, result.stderr
    rows = {row["chunk_id"]: row for row in fresh.rows(recorder)}
    assert [rows[i]["status"] for i in ids] == ["UPLOADED", "UPLOADED", "DONE", "ERROR"]
    assert [rows[i]["attempts"] for i in ids] == [1000, 1001, 1001, 1001]
    assert [rows[i]["attempts"] - rows[i]["attempts_forgiven"] for i in ids] == [0, 1, 1, 1]
    with fresh.connect() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE audio_chunks SET attempts = 7")


def test_it_says_of_when_tokens_are_and_lists_the_devices(
    emptied: Service, recorder: Recorder, backup: Path, fresh: Service
) -> None:
    result = ingest(fresh, "restore", backup)
    assert "Tokens, and which devices are disabled, are as of 20" in result.stdout
    assert f"{recorder.device.device_id}  enabled" in result.stdout
    assert "flask ingest rotate-token" in result.stdout


_KILLED_WHEN_LOADED = """
import os, signal, sys
def listen(event, arguments):
    if event == "ingest_api.step" and arguments[0] == "loaded":
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(listen)
sys.argv[:] = ["flask", "ingest", "restore", *sys.argv[1:]]
from flask.cli import main
main()
"""


def test_killed_before_the_fence_is_raised_it_goes_on_when_run_again(
    backup: Path, emptied: Service, folder: Path, fresh: Service
) -> None:
    """Meanwhile nothing else uses the database, whose leases of before the loss still match."""
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_WHEN_LOADED, str(backup)], env=environ(fresh), timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    for command in (["migrate"], ["fsck"]):
        refused = ingest(fresh, *command)
        assert refused.returncode in {1, 2}
        assert "A restore into this database was interrupted" in refused.stderr
    with pytest.raises(RestoreUnfinished), connect(_settings(fresh)) as connection:
        refuse_old_schema(connection)

    assert emptied.upload(emptied.recorder(), b"later").status_code == 200
    other = make_backup(emptied, folder)["path"]
    assert "half restored from another backup" in _refused(fresh, other)

    _restore(fresh, backup)
    with fresh.connect() as connection:
        attempts = connection.execute("SELECT DISTINCT attempts FROM audio_chunks").fetchall()
    assert attempts == [(1000,)]
    assert "is not empty" in _refused(fresh, backup)
    _assert_clean(fresh)


def _settings(service: Service) -> Settings:
    return Settings.from_environ({"DATABASE_URL": service.database_url})
