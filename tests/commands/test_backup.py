"""`flask ingest backup`: what a backup has, that it is whole whatever happens, and what remains."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.backups import (
    PATH,
    PROGRAMS,
    assert_whole,
    change,
    ingest,
    ingest_process,
    interrupted,
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

from ingest_api.database import migrations

pytestmark = pytest.mark.slow

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path, emptied: Service) -> Path:
    """For backups, of a service that has stored nothing yet."""
    return prepared(tmp_path / "backups", emptied)


@pytest.fixture
def recorder(emptied: Service) -> Recorder:
    return emptied.recorder()


def _upload(service: Service, recorder: Recorder, *chunks: bytes) -> list[str]:
    """The paths."""
    paths = []
    for data in chunks:
        answer = service.upload(recorder, data)
        assert answer.status_code == 200
        paths.append(answer.json()["stored_path"])
    return paths


def test_a_backup_has_the_database_and_every_recording(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    paths = _upload(emptied, recorder, b"first", b"second")
    told = make_backup(emptied, folder)
    assert (told["chunks"], told["files"], told["bytes"]) == (2, 2, 11)
    newest = migrations.available()[-1].version
    assert (told["new_files"], told["missing"], told["migration"]) == (2, 0, newest)
    assert assert_whole(folder) == [told["path"]]
    assert set(listed(told["path"])) == set(paths) == stored(folder / "storage")
    assert stored(told["path"]) == {"database.dump", "files", "backup.json"}
    assert json.loads((told["path"] / "backup.json").read_text())["chunks"] == 2
    contents = subprocess.check_output(
        [PROGRAMS / "pg_restore", "--list", told["path"] / "database.dump"], text=True
    )
    assert "TABLE DATA public audio_chunks" in contents


def test_nobody_else_may_read_it(emptied: Service, recorder: Recorder, folder: Path) -> None:
    _upload(emptied, recorder, b"first")
    make_backup(emptied, folder)
    modes = {path.is_dir(): set() for path in folder.rglob("*")}
    for path in [folder, *folder.rglob("*")]:
        if path.name != ".ingest-backup":
            modes[path.is_dir()].add(path.stat().st_mode & 0o777)
    assert modes == {True: {0o700}, False: {0o600}}


def test_a_recording_is_copied_once(emptied: Service, recorder: Recorder, folder: Path) -> None:
    [first] = _upload(emptied, recorder, b"first")
    make_backup(emptied, folder)
    inode = (folder / "storage" / first).stat().st_ino
    [second] = _upload(emptied, recorder, b"second")
    told = make_backup(emptied, folder)
    assert (told["files"], told["new_files"], told["new_bytes"]) == (2, 1, 6)
    assert (folder / "storage" / first).stat().st_ino == inode
    assert set(listed(told["path"])) == {first, second}
    assert len(assert_whole(folder)) == 2


def test_it_speaks_to_people(emptied: Service, recorder: Recorder, folder: Path) -> None:
    _upload(emptied, recorder, b"x" * 500_000)
    result = ingest(emptied, "backup", folder, "--keep", "1")
    assert result.stdout.startswith("backed up 1 chunks (0.5 MB) to ")
    assert result.stdout.endswith(" 1 new files (0.5 MB)\n")
    shutil.copytree(emptied.storage, emptied.folder / "kept")
    emptied.forget_everything()
    result = ingest(emptied, "backup", folder, "--keep", "1", "--force")
    assert result.stdout.splitlines()[1] == "removed 1 older backups and 1 files (0.5 MB)"
    result = ingest(emptied, "backups", folder)
    [line] = result.stdout.splitlines()
    assert line.split()[1:3] == ["0", "chunks"]
    [told] = json.loads(ingest(emptied, "backups", folder, "--json").stdout)
    assert (told["chunks"], told["path"]) == (0, line.split()[0])


def test_what_is_being_removed_is_not_in_it(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"first", b"second")
    change(emptied, recorder, 0, status="PRUNED")
    kept = emptied.rows(recorder)[1]["file_path"]
    assert set(listed(make_backup(emptied, folder)["path"])) == {kept}


def test_the_earlier_services_rows_are_understood(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"first", b"second", b"third")
    first, second, third = (row["file_path"] for row in emptied.rows(recorder))
    other = emptied.storage / "elsewhere" / "näme.ogg"
    other.parent.mkdir()
    (emptied.storage / third).rename(other)
    spelled = [f"./{first}", f"{emptied.storage}/{second}", "elsewhere/näme.ogg"]
    for number, path in enumerate(spelled):
        change(emptied, recorder, number, sha256=None, file_path=path)
    told = make_backup(emptied, folder)
    assert told["files"] == 3
    assert set(listed(told["path"])) == stored(emptied.storage)
    assert all(file.sha256 is None for file in listed(told["path"]).values())
    assert make_backup(emptied, folder)["new_files"] == 0
    assert len(assert_whole(folder)) == 2


def test_a_missing_and_a_damaged_file_are_told_and_the_rest_is_kept(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    lost, short, other, good = _upload(emptied, recorder, b"lost", b"short", b"other", b"good")
    (emptied.storage / lost).rename(emptied.folder / "lost")
    (emptied.storage / short).write_bytes(b"shor")
    (emptied.storage / other).write_bytes(b"OTHER")
    told = make_backup(emptied, folder, status=1)
    assert (told["chunks"], told["files"], told["missing"]) == (4, 1, 3)
    assert "3 rows have no file, or a damaged one" in told["stderr"]
    assert stored(folder / "storage") == set(listed(told["path"])) == {good}
    reasons = {}
    for line in (told["path"] / "missing").read_text().splitlines():
        path, _size, _sha256, reason = line.split("\t")
        reasons[path] = reason
    assert reasons[lost] == "there is no file"
    assert reasons[short] == "4 bytes, not 5"
    assert reasons[other].startswith("SHA-256 ")
    # They are looked for again, and a copy that is good is not spoilt by the file that is damaged.
    (emptied.folder / "lost").rename(emptied.storage / lost)
    (emptied.storage / good).write_bytes(b"GOOD")
    told = make_backup(emptied, folder, "--full", status=1)
    assert (told["files"], told["new_files"], told["missing"]) == (2, 1, 2)
    assert set(listed(told["path"])) == {lost, good}
    assert len(assert_whole(folder)) == 2


HOSTILE = [
    "../x",
    "audio/../../x",
    "/etc/passwd",
    "audio",
    "a\tb\nc",
    "audio/\\x0a",
    "",
    "x" * 5000,
]


def test_hostile_paths_do_no_harm(emptied: Service, recorder: Recorder, folder: Path) -> None:
    (emptied.folder / "x").write_bytes(b"not ours")
    good, *_ = _upload(emptied, recorder, b"good", *[b"%d" % n for n in range(len(HOSTILE) + 1)])
    odd = "audio/\x01 tab\tand\nline \\x41 ünd.ogg"
    numbers = [n for n, row in enumerate(emptied.rows(recorder)) if row["file_path"] != good]
    for number, path in zip(numbers, [*HOSTILE, odd], strict=True):
        change(emptied, recorder, number, sha256=None, file_path=path, file_size_bytes=3)
    (emptied.storage / odd).write_bytes(b"odd")
    told = make_backup(emptied, folder, status=1)
    assert told["missing"] == len(HOSTILE)
    assert set(listed(told["path"])) == {good, odd} == stored(folder / "storage")
    assert make_backup(emptied, folder, "--full", status=1)["new_files"] == 0
    assert len(assert_whole(folder)) == 2
    assert not (folder / "x").exists()


def test_a_recording_behind_a_link_is_backed_up_as_a_file(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    """An operator has moved a shop's recordings to another disk, and the service follows."""
    [path] = _upload(emptied, recorder, b"first")
    shop = emptied.storage / "audio" / str(recorder.device.point_id)
    shop.rename(emptied.folder / "moved")
    shop.symlink_to(emptied.folder / "moved")
    make_backup(emptied, folder)
    assert not any(found.is_symlink() for found in (folder / "storage").rglob("*"))
    assert (folder / "storage" / path).read_bytes() == b"first"
    shutil.rmtree(emptied.folder / "moved")
    shop.unlink()


def test_nothing_is_written_or_removed_over_a_link_in_the_backups_folder(
    emptied: Service, recorder: Recorder, folder: Path, tmp_path: Path
) -> None:
    [path] = _upload(emptied, recorder, b"first")
    make_backup(emptied, folder)
    copy, outside = folder / "storage" / path, tmp_path / "outside"
    outside.write_bytes(b"FIRST")
    copy.unlink()
    copy.symlink_to(outside)
    make_backup(emptied, folder, "--full")
    assert (copy.is_symlink(), copy.read_bytes(), outside.read_bytes()) == (
        *(False, b"first", b"FIRST"),
    )
    elsewhere = tmp_path / "elsewhere"
    copy.parent.rename(elsewhere)
    copy.parent.symlink_to(elsewhere)
    result = ingest(emptied, "backup", folder, "--full")
    assert result.returncode == 1
    assert "is reached through a symbolic link" in result.stderr
    emptied.forget_everything()
    make_backup(emptied, folder, "--keep", "1", "--force")
    assert len(list(elsewhere.iterdir())) == 1


def test_full_finds_and_mends_what_the_backups_disk_has_spoilt(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    bad, lost, good = _upload(emptied, recorder, b"bad", b"lost", b"good")
    make_backup(emptied, folder)
    (folder / "storage" / bad).write_bytes(b"BAD")
    (folder / "storage" / lost).unlink()
    unknown = folder / "storage" / "audio" / "unknown.ogg"
    unknown.write_bytes(b"of nobody")
    assert make_backup(emptied, folder)["new_files"] == 0
    assert unknown.exists()
    told = make_backup(emptied, folder, "--full")
    assert (told["new_files"], told["removed"]["files"]) == (2, 1)
    assert stored(folder / "storage") == {bad, lost, good}
    assert len(assert_whole(folder)) == 3


def test_only_so_many_are_kept_and_exactly_the_files_that_they_have(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    for number in range(5):
        _upload(emptied, recorder, b"%d" % number, b"also %d" % number)
        make_backup(emptied, folder, "--keep", "3")
        with emptied.connect() as connection:  # as retention does
            gone = emptied.rows(recorder)[0]
            connection.execute("DELETE FROM audio_chunks WHERE chunk_id = %s", [gone["chunk_id"]])
        (emptied.storage / gone["file_path"]).unlink()
        found = assert_whole(folder)
        assert len(found) == min(number + 1, 3)
        assert stored(folder / "storage") == set().union(*map(listed, found))
    told = make_backup(emptied, folder, "--keep", "1")
    assert told["removed"] == {"backups": 3, "files": 3, "bytes": told["removed"]["bytes"]} | {
        "postponed": ""
    }
    assert stored(folder / "storage") == set(listed(told["path"])) == stored(emptied.storage)


def test_an_erasure_is_complete_with_keep_1(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"a person")
    other = emptied.recorder()
    [kept] = _upload(emptied, other, b"another")
    make_backup(emptied, folder)
    device = ["--device", str(recorder.device.device_id), "--status", "all"]
    assert ingest(emptied, "prune", *device).returncode == 0
    make_backup(emptied, folder, "--keep", "1")
    assert stored(folder / "storage") == {kept}
    assert not (folder / "storage/audio" / str(recorder.device.point_id)).exists()
    assert len(assert_whole(folder)) == 1


def test_a_list_that_is_damaged_removes_nothing(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"1", b"2", b"3")
    first = make_backup(emptied, folder)["path"]
    second = make_backup(emptied, folder)["path"]
    change(emptied, recorder, 1, status="PRUNED")
    make_backup(emptied, folder)
    lines = (second / "files").read_text().splitlines(keepends=True)
    (second / "files").write_text("".join(reversed(lines)))
    result = ingest(emptied, "backup", folder, "--keep", "2")
    assert result.returncode == 0
    assert f"{second}/files is damaged" in result.stderr
    assert (
        f"No recording was removed, because a damaged backup may need it. See {second}/files"
        in (result.stderr)
    )
    assert len(stored(folder / "storage")) == 3
    assert not first.exists()
    shutil.rmtree(second)
    make_backup(emptied, folder, "--keep", "1")
    assert len(stored(folder / "storage")) == 2
    assert len(assert_whole(folder)) == 1


def test_an_interrupted_backup_harms_no_other_and_is_cleared_away(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    """Killed at twelve places, from the first to the last; and before each retention has removed
    something, so that there is something to remove."""
    _upload(emptied, recorder, b"0")
    make_backup(emptied, folder)
    _upload(emptied, recorder, b"-1")
    steps = steps_of(emptied, "backup", folder, "--keep", "2")
    places = sorted({1 + round(n * (steps - 1) / 11) for n in range(12)})
    for place in places:
        before = len(assert_whole(folder))
        _upload(emptied, recorder, b"%d" % place)
        with emptied.connect() as connection:
            gone = emptied.rows(recorder)[0]
            connection.execute("DELETE FROM audio_chunks WHERE chunk_id = %s", [gone["chunk_id"]])
        kill_at(emptied, place, "backup", folder, "--keep", "2")
        assert len(assert_whole(folder)) >= min(before, 1)
        (emptied.storage / gone["file_path"]).unlink()
    make_backup(emptied, folder, "--keep", "2")
    found = assert_whole(folder)
    assert stored(folder / "storage") == set().union(*map(listed, found))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [".ingest-backup", "storage", *(path.name for path in found)]
    )


def test_an_interrupted_first_backup_goes_on_where_it_was(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, *(b"%d" % number for number in range(8)))
    kill_at(emptied, 16, "backup", folder, at="/copy-")
    half = stored(folder / "storage")
    assert 0 < len(half) < 8
    [line] = ingest(emptied, "backups", folder).stdout.splitlines()
    assert line.endswith("interrupted; the next backup cleans it up")
    assert make_backup(emptied, folder)["new_files"] == 8 - len(half)
    assert len(assert_whole(folder)) == 1


def test_what_an_interrupted_backup_has_copied_is_not_forgotten(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, *(b"%d" % number for number in range(8)))
    kill_at(emptied, 16, "backup", folder, at="/copy-")
    assert stored(folder / "storage")
    emptied.forget_everything()
    make_backup(emptied, folder)
    assert stored(folder / "storage") == set()


def _go_on(process: subprocess.Popen[str]) -> None:
    """What waits at its place, to the end."""
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told


def _is_waited_for(file: Path) -> bool:
    """Whether somebody waits for the lock on it."""
    locks = Path("/proc/locks").read_text().splitlines()
    return any("->" in lock and f":{file.stat().st_ino} " in lock for lock in locks)


def test_no_file_goes_while_a_backup_is_made(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"1", b"2")
    device = ["--device", str(recorder.device.device_id), "--status", "all"]
    with interrupted(emptied, 1, "wait", "backup", folder, at="/copy-") as process:
        eventually(lambda: list(folder.glob("*.partial/files")), 30)
        pruned = ingest(emptied, "prune", *device)
        second = ingest(emptied, "backup", folder)
        _go_on(process)
    assert pruned.returncode == second.returncode == 1
    assert "Another prune, fsck --repair or backup is running" in pruned.stderr
    assert f"Another backup or restore is running in {folder}" in second.stderr
    assert len(emptied.rows(recorder)) == 2
    assert len(assert_whole(folder)) == 1


def test_it_waits_for_a_prune(emptied: Service, recorder: Recorder, folder: Path) -> None:
    _upload(emptied, recorder, b"1", b"2")
    device = ["--device", str(recorder.device.device_id), "--status", "all"]
    with interrupted(emptied, 1, "wait", "prune", *device) as process:
        eventually(lambda: {row["status"] for row in emptied.rows(recorder)} == {"PRUNED"}, 30)
        with ThreadPoolExecutor(1) as thread:
            made = thread.submit(make_backup, emptied, folder)
            eventually(lambda: _is_waited_for(emptied.storage / ".lock"), 30)
            _go_on(process)
        told = made.result()
    assert "waiting for prune or fsck --repair" in told["stderr"]
    assert (told["chunks"], told["missing"]) == (0, 0)


def test_a_row_that_leads_elsewhere_costs_no_recording(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"1", b"2")
    own, other = (row["file_path"] for row in emptied.rows(recorder))
    for number, path in enumerate((other, "../outside")):
        change(emptied, recorder, number, file_path=path)
    told = make_backup(emptied, folder)
    assert (told["chunks"], told["files"], told["missing"]) == (2, 2, 0)
    assert all((folder / "storage" / path).exists() for path in (own, other))


def test_an_unmounted_disk_is_not_written_to(
    emptied: Service, recorder: Recorder, tmp_path: Path
) -> None:
    for place in (tmp_path / "nothing", tmp_path):
        result = ingest(emptied, "backup", place)
        assert result.returncode == 1
        assert f"{place} is not a folder for backups" in result.stderr
        assert "Mount its disk" in result.stderr
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letters").touch()
    result = ingest(emptied, "backup", "--init", tmp_path / "full")
    assert result.returncode == 1
    assert "is not empty: it has letters" in result.stderr
    for _ in range(2):
        result = ingest(emptied, "backup", "--init", tmp_path / "new")
        assert result.stdout == f"{tmp_path}/new is ready for backups\n"


def test_it_must_be_apart_from_the_recordings(emptied: Service, recorder: Recorder) -> None:
    _upload(emptied, recorder, b"1")
    inside = prepared(emptied.storage / "backups", emptied)
    link = emptied.folder / "link"
    link.symlink_to(inside)
    for place in (inside, link, emptied.folder):
        result = ingest(emptied, "backup", place)
        assert result.returncode == 1
        assert "overlap" in result.stderr
    link.unlink()


def test_an_empty_database_does_not_drive_out_the_backups(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"1")
    make_backup(emptied, folder)
    emptied.forget_everything()
    result = ingest(emptied, "backup", folder)
    assert result.returncode == 1
    assert "The database has no chunks, but the last backup has 1" in result.stderr
    assert len(assert_whole(folder)) == 1
    make_backup(emptied, folder, "--force")


def test_a_disk_with_recordings_that_is_not_mounted_stops_it(
    emptied: Service, recorder: Recorder, folder: Path, tmp_path: Path
) -> None:
    _upload(emptied, recorder, b"1")
    (tmp_path / "empty").mkdir()
    result = ingest(emptied, "backup", folder, AUDIO_STORAGE_DIR=str(tmp_path / "empty"))
    assert result.returncode == 1
    assert "Mount its disk" in result.stderr
    assert assert_whole(folder) == []


def test_no_password_is_shown(
    emptied: Service, recorder: Recorder, folder: Path, tmp_path: Path
) -> None:
    _upload(emptied, recorder, b"1")
    spy = tmp_path / "bin" / "pg_dump"
    spy.parent.mkdir()
    spy.write_text(
        f'#!/bin/sh\necho "$@" "$PGDATABASE" >> {tmp_path}/arguments\n'
        f'echo "$PGPASSWORD" >> {tmp_path}/password\nexec {PROGRAMS}/pg_dump "$@"\n'
    )
    spy.chmod(0o755)
    url = f"{emptied.database_url}&password=s%40cret%20word"
    result = ingest(emptied, "backup", folder, DATABASE_URL=url, PATH=f"{spy.parent}:{PATH}")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "password").read_text().splitlines()[-1] == "s@cret word"
    arguments = (tmp_path / "arguments").read_text()
    assert "--snapshot=" in arguments
    assert "cret" not in arguments


def _program(folder: Path, text: str) -> str:
    """A PATH on which pg_dump is this script."""
    folder.mkdir()
    (folder / "pg_dump").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "pg_dump").chmod(0o755)
    return f"{folder}:{PATH}"


def test_a_pg_dump_that_is_not_fit_is_told(
    emptied: Service, recorder: Recorder, folder: Path, tmp_path: Path
) -> None:
    _upload(emptied, recorder, b"1")
    (tmp_path / "none").mkdir()
    result = ingest(emptied, "backup", folder, PATH=str(tmp_path / "none"))
    assert "pg_dump is not installed. Run: apt install postgresql-client-" in result.stderr
    old = _program(tmp_path / "old", "echo 'pg_dump (PostgreSQL) 9.6.1'")
    result = ingest(emptied, "backup", folder, PATH=old)
    assert "pg_dump says 'pg_dump (PostgreSQL) 9.6.1'. Run: apt install" in result.stderr
    text = "[ $1 = --version ] && echo 'pg_dump (PostgreSQL) 99' && exit; echo it broke >&2; exit 3"
    result = ingest(emptied, "backup", folder, PATH=_program(tmp_path / "bad", text))
    assert "pg_dump failed: it broke" in result.stderr
    assert result.returncode == 1
    assert list(folder.glob("2*")) == []


def test_the_settings_can_be_put_beside_the_dump(
    emptied: Service, recorder: Recorder, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "settings").write_text("ADMIN_TOKEN=x\n")
    told = make_backup(emptied, folder, "--settings", str(tmp_path / "settings"))
    copy = told["path"] / "settings.env"
    assert copy.read_text() == "ADMIN_TOKEN=x\n"
    assert copy.stat().st_mode & 0o777 == 0o600


@contextmanager
def _small_disk(path: Path, options: str) -> Iterator[list[str]]:
    """What a command must begin with to find a disk there; everybody else sees an empty folder."""
    path.mkdir()
    user = [] if AS_ROOT else ["--user", "--map-root-user"]
    mount = 'mount -t tmpfs -o "$0" tmpfs "$1" && echo mounted && exec sleep 1000'
    holder = subprocess.Popen(
        ["unshare", "--mount", *user, "sh", "-c", mount, options, str(path)],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout and holder.stdout.readline() == b"mounted\n"
        inside = [] if AS_ROOT else ["--user", "--preserve-credentials"]
        yield ["nsenter", f"--target={holder.pid}", "--mount", *inside]
    finally:
        holder.kill()
        holder.communicate()


def test_a_backup_that_has_no_room_is_not_begun(
    emptied: Service, recorder: Recorder, tmp_path: Path
) -> None:
    _upload(emptied, recorder, *(b"%d" % number * 6_000_000 for number in range(3)))
    with _small_disk(tmp_path / "disk", "size=16m") as prefix:
        ingest_process(emptied, "backup", "--init", tmp_path / "disk", prefix=prefix)
        result = ingest_process(emptied, "backup", tmp_path / "disk", prefix=prefix)
        reserve = ingest_process(
            emptied, "backup", tmp_path / "disk", prefix=prefix, MIN_FREE_BYTES="268435456"
        )
        left = subprocess.check_output([*prefix, "ls", "-A", tmp_path / "disk"], text=True)
    assert result.returncode == reserve.returncode == 1
    assert f"There is not enough space in {tmp_path}/disk: " in result.stderr
    assert "268.4 MB must stay free" in reserve.stderr
    assert "2" not in left  # but for the marker and an empty folder


def test_a_disk_that_fills_up_harms_no_earlier_backup(
    emptied: Service, recorder: Recorder, tmp_path: Path
) -> None:
    _upload(emptied, recorder, b"first")
    with _small_disk(tmp_path / "disk", "size=64m,nr_inodes=32") as prefix:
        ingest_process(emptied, "backup", "--init", tmp_path / "disk", prefix=prefix)
        result = ingest_process(emptied, "backup", tmp_path / "disk", prefix=prefix)
        assert result.returncode == 0, result.stderr
        _upload(emptied, recorder, *(b"%d" % number for number in range(40)))
        result = ingest_process(emptied, "backup", tmp_path / "disk", prefix=prefix)
        copy = tmp_path / "copy"
        subprocess.run([*prefix, "cp", "-a", tmp_path / "disk", copy], check=True)
    assert result.returncode == 1
    assert "the disk is full" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(assert_whole(copy)) == 1
    assert [path.name for path in copy.glob("*.partial/*")] == ["files"]


def test_a_schema_that_is_behind_can_be_backed_up_before_it_is_migrated(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"first")
    with newest_migration_forgotten(emptied) as newest:
        assert make_backup(emptied, folder)["migration"] == newest.version - 1


def test_a_list_is_sorted_as_its_bytes_are(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from ingest_api.backups.manifest import format_line, parse_line, read_lines, read_paths;"
        "from ingest_api.backups.manifest import write_sorted;"
        "from ingest_api.models.backups import ListedFile as F;"
        "names = ['a', 'a.b', 'a\\x01', 'a b', 'B', 'ä', 'a\\tb', 'a/b', 'Z', 'a'];"
        "path = Path(sys.argv[1]) / 'files';"
        "print(write_sorted(path, (format_line(F(n, 1, None)) for n in names)));"
        "paths = list(read_paths(path)); assert paths == sorted(paths);"
        "assert {parse_line(line).path for line in read_lines(path)} == set(names)"
    )
    for locale in ("C.UTF-8", "en_US.UTF-8"):
        run = subprocess.run(
            [sys.executable, "-c", script, tmp_path],
            env=os.environ | {"LC_ALL": locale, "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
        )
        assert (run.returncode, run.stdout) == (0, "10\n"), run.stderr


def test_a_file_that_cannot_be_read_is_told(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    [good, bad] = _upload(emptied, recorder, b"good", b"bad")
    number = [row["file_path"] for row in emptied.rows(recorder)].index(bad)
    change(emptied, recorder, number, sha256=None, file_size_bytes=0)
    (emptied.storage / bad).unlink()
    (emptied.storage / bad).symlink_to("/proc/self/mem")  # which is read with EIO
    told = make_backup(emptied, folder, status=1)
    assert set(listed(told["path"])) == {good} == stored(folder / "storage")
    assert "cannot be read: Input/output error" in (told["path"] / "missing").read_text()


def test_a_disk_that_goes_meanwhile_leaves_no_backup(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"1", b"2")
    away = emptied.folder / "away"
    with interrupted(emptied, 1, "wait", "backup", folder, at="/missing") as process:
        eventually(lambda: list(folder.glob("*.partial/files")), 30)
        (emptied.storage / "audio").rename(away)
        _, told = process.communicate(timeout=30)
    away.rename(emptied.storage / "audio")
    assert process.returncode == 1
    assert "The storage is not writable" in told
    assert assert_whole(folder) == []
    make_backup(emptied, folder)


def test_a_disk_of_backups_that_fails_meanwhile_has_lost_no_recording(
    emptied: Service, recorder: Recorder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that could not be copied is not one that the service has lost."""
    [path] = _upload(emptied, recorder, b"1")
    looked_at, stat = [], Path.stat

    def failing(self: Path, **options: bool) -> os.stat_result:
        if self == folder / "storage" / path:
            looked_at.append(self)
            if len(looked_at) > 1:  # once to count, without a fault
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", failing)
    result = ingest(emptied, "backup", folder)
    monkeypatch.undo()
    assert (result.returncode, result.stdout) == (1, "")
    assert f"Input/output error: '{folder}/storage/{path}'" in result.stderr
    assert assert_whole(folder) == []
    make_backup(emptied, folder)


def _without_summary(backup: Path) -> None:
    (backup / "backup.json").unlink()


def _truncated(backup: Path) -> None:
    text = (backup / "backup.json").read_text()
    (backup / "backup.json").write_text(text[: len(text) // 2])


def _of_wrong_types(backup: Path) -> None:
    summary = json.loads((backup / "backup.json").read_text())
    (backup / "backup.json").write_text(json.dumps(summary | {"chunks": "many"}))


def _no_object(backup: Path) -> None:
    (backup / "backup.json").write_text("[]")


def _unreadable(backup: Path) -> None:
    (backup / "backup.json").unlink()
    (backup / "backup.json").mkdir()  # also for root


def _a_file(backup: Path) -> None:
    shutil.rmtree(backup)
    backup.write_text("")


def _without_dump(backup: Path) -> None:
    (backup / "database.dump").unlink()


DAMAGES = [
    *(_without_summary, _truncated, _of_wrong_types, _no_object),
    *(_unreadable, _a_file, _without_dump),
]


def test_damaged_backups_stop_no_other_and_are_never_removed(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"1")
    made = [make_backup(emptied, folder)["path"] for _ in range(2)]
    damaged = [folder / f"20260101T00000{number}Z" for number in range(len(DAMAGES))]
    for backup, damage in zip(damaged, DAMAGES, strict=True):
        shutil.copytree(made[0], backup)
        damage(backup)
    result = ingest(emptied, "backups", folder)
    assert result.returncode == 0, result.stderr
    for backup in damaged:
        assert f"{backup}  damaged: " in result.stdout
    assert "rm -r" in result.stderr
    assert len(json.loads(ingest(emptied, "backups", folder, "--json").stdout)) == 2
    told = make_backup(emptied, folder, "--keep", "2")
    for backup in damaged:
        assert f"{backup}  damaged: " in told["stderr"]
    assert told["removed"]["backups"] == 1
    assert [path for path in (*damaged, *made) if not path.exists()] == made[:1]


def test_what_only_a_damaged_backup_lists_stays_and_the_rest_goes(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    [first] = _upload(emptied, recorder, b"1")
    damaged = make_backup(emptied, folder)["path"]
    _without_summary(damaged)
    [second] = _upload(emptied, recorder, b"2")
    for row in emptied.rows(recorder):
        if row["file_path"] == first:
            with emptied.connect() as connection:
                connection.execute(
                    "DELETE FROM audio_chunks WHERE chunk_id = %s", [row["chunk_id"]]
                )
    make_backup(emptied, folder)
    emptied.forget_everything()
    told = make_backup(emptied, folder, "--keep", "1", "--force")
    assert told["removed"]["files"] == 1
    assert stored(folder / "storage") == {first} != {second}


def test_a_summary_of_a_newer_version_is_understood(
    emptied: Service, recorder: Recorder, folder: Path
) -> None:
    _upload(emptied, recorder, b"1")
    path = make_backup(emptied, folder)["path"]
    summary = json.loads((path / "backup.json").read_text())
    (path / "backup.json").write_text(json.dumps(summary | {"color": "blue"}))
    assert "damaged" not in ingest(emptied, "backups", folder).stdout
    assert make_backup(emptied, folder)["new_files"] == 0
