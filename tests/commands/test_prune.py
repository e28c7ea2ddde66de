"""`flask ingest prune`: what is removed, what never, and that a row never promises a lost file."""

import fcntl
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.commands import COMMAND, Result, flask_ingest
from support.leases import HttpWorker
from support.problems import assert_problem
from support.processes import eventually, read_terminal
from support.recorder import SPEECH, Recorder
from support.service import Service, clean_environ

from ingest_api.database import queries
from ingest_api.database.pool import connect
from ingest_api.models.retention import Selection
from ingest_api.settings import Settings
from ingest_api.usecases import retention

LONG_AGO = datetime(2026, 1, 28, 10, tzinfo=UTC)


def _prune(service: Service, *options: str, **settings: str) -> Result:
    settings = {"AUDIO_STORAGE_DIR": str(service.storage)} | settings
    return flask_ingest(service.database_url, "prune", *options, **settings)


def _removed(service: Service, *options: str) -> int:
    result = _prune(service, "--json", *options)
    assert result.returncode == 0, result.stderr
    removed: int = json.loads(result.stdout)["removed"]["chunks"]
    return removed


def _store(
    service: Service,
    recorder: Recorder,
    data: bytes = SPEECH,
    *,
    at: datetime = LONG_AGO,
    **columns: Any,
) -> Path:
    """A chunk whose row then says of itself what `columns` say."""
    times = {"start_ts": at.isoformat(), "end_ts": (at + timedelta(minutes=1)).isoformat()}
    answer = service.upload(recorder, data, **times).json()
    changes = {"status": "DONE", "created_at": LONG_AGO} | columns
    with service.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # no trigger says no
        columns_set = ", ".join(f"{name} = %s" for name in changes)
        connection.execute(
            f"UPDATE audio_chunks SET {columns_set} WHERE chunk_id = %s",
            [*changes.values(), answer["chunk_id"]],
        )
    return service.storage / answer["stored_path"]


def test_retention_takes_what_was_received_long_ago_and_is_done_with(emptied: Service) -> None:
    recorder = emptied.recorder()
    done = _store(emptied, recorder, b"done")
    error = _store(emptied, recorder, b"error", status="ERROR")
    kept = [
        _store(emptied, recorder, b"new", created_at=datetime.now(UTC) - timedelta(days=89)),
        _store(emptied, recorder, b"queued", status="QUEUED"),
        _store(emptied, recorder, b"processing", status="PROCESSING"),
        _store(emptied, recorder, b"uploaded", status="UPLOADED"),
    ]
    assert _removed(emptied, "--older-than", "90d") == 2
    assert not done.exists()
    assert not error.exists()
    assert all(file.exists() for file in kept)
    assert {emptied.storage / row["file_path"] for row in emptied.rows(recorder)} == set(kept)
    assert _removed(emptied, "--older-than", "90d") == 0
    assert _removed(emptied, "--older-than", "90d", "--status", "queued") == 1
    assert not kept[1].exists()


def test_a_clock_that_was_wrong_does_not_shorten_the_retention(emptied: Service) -> None:
    now = datetime.now(UTC)
    for _ in range(2):
        _store(emptied, emptied.recorder(), at=now - timedelta(minutes=1), created_at=now)
    recorder = emptied.recorder()
    file = _store(emptied, recorder, at=datetime(1970, 1, 1, tzinfo=UTC), created_at=now)
    assert _removed(emptied, "--older-than", "1d") == 0
    assert file.exists()


def test_erasure_takes_a_device_and_a_time(emptied: Service) -> None:
    recorder, other = emptied.recorder(), emptied.recorder()
    minutes = [LONG_AGO + timedelta(minutes=number) for number in range(5)]
    files = [_store(emptied, recorder, b"%d" % n, at=minute) for n, minute in enumerate(minutes)]
    untouched = _store(emptied, other, at=minutes[2])
    device = ["--device", str(recorder.device.device_id)]
    begin, end = minutes[1] + timedelta(seconds=30), minutes[3]
    spoken = ["--from", begin.isoformat(), "--to", end.isoformat()]
    assert _removed(emptied, *device, *spoken) == 2  # the one in which it begins goes whole
    assert [file.exists() for file in files] == [True, False, False, True, True]
    assert _removed(emptied, *device) == 3
    assert untouched.exists()
    assert _removed(emptied, "--point", str(other.device.point_id)) == 1


def test_it_tells_what_it_would_do(emptied: Service) -> None:
    recorder = emptied.recorder()
    files = [
        _store(emptied, recorder, b"x" * 500_000),
        _store(emptied, recorder, b"2", status="ERROR"),
    ]
    files.append(_store(emptied, recorder, b"3", status="QUEUED"))
    result = _prune(emptied, "--older-than", "30d", "--dry-run")
    assert (result.returncode, result.stdout.splitlines()) == (
        0,
        [
            "would remove 2 chunks (0.5 MB): 1 DONE, 1 ERROR",
            "would keep 1 chunks (0.0 MB): 1 QUEUED; see --status",
        ],
    )
    result = _prune(emptied, "--older-than", "30d", "--dry-run", "--json")
    assert json.loads(result.stdout) == {
        "would_remove": [
            {"status": "DONE", "chunks": 1, "bytes": 500_000},
            {"status": "ERROR", "chunks": 1, "bytes": 1},
        ],
        "would_finish": [],
        "would_keep": [{"status": "QUEUED", "chunks": 1, "bytes": 1}],
        "lost_and_found": {"files": 0, "bytes": 0},
    }
    assert all(file.exists() for file in files)
    assert len(emptied.rows(recorder)) == 3


def test_empty_folders_go_and_those_in_use_stay(emptied: Service) -> None:
    recorder = emptied.recorder()
    old = _store(emptied, recorder, b"old")
    other_hour = _store(
        emptied, recorder, b"other", at=LONG_AGO + timedelta(hours=1), status="QUEUED"
    )
    assert _removed(emptied, "--older-than", "30d") == 1
    assert not old.parent.exists()
    assert other_hour.exists()
    assert _removed(emptied, "--older-than", "30d", "--status", "QUEUED") == 1
    assert list((emptied.storage / "audio").iterdir()) == []
    # A folder of these days is left: a worker may take it for granted that it is there.
    new = _store(emptied, recorder, b"new", at=datetime.now(UTC))
    assert _removed(emptied, "--older-than", "30d") == 1
    assert not new.exists()
    assert new.parent.exists()
    for number in range(4):
        assert _store(emptied, recorder, b"%d" % number, at=datetime.now(UTC)).exists()


def test_each_batch_is_a_line_in_the_log(emptied: Service) -> None:
    recorder = emptied.recorder()
    for number in range(5):
        _store(emptied, recorder, b"%d" % number)
    result = _prune(emptied, "--older-than", "30d", "--batch", "2")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert [(line["message"], line["chunks"], line["bytes"]) for line in lines] == [
        ("pruned", 2, 2),
        ("pruned", 2, 2),
        ("pruned", 1, 1),
    ]
    assert result.stdout.startswith("removed 5 chunks (0.0 MB) in ")


def test_a_batch_holds_whatever_the_plan_is(emptied: Service) -> None:
    """PostgreSQL may join the batch to the table by a nested loop, and choose it again per row."""
    recorder = emptied.recorder()
    for number in range(6):
        _store(emptied, recorder, b"%d" % number)
    selection = Selection(("DONE",), None, None, None, None)
    with emptied.connect() as connection:
        for name in ("hashjoin", "mergejoin", "hashagg", "sort", "material", "indexscan"):
            connection.execute(f"SET enable_{name} = off")
        connection.execute("SET enable_bitmapscan = off")
        marked = queries.retention.mark_pruned(
            connection, selection, status="DONE", received_from=None, batch=2
        )
    assert len(marked) == 2


def test_the_rate_is_a_limit(emptied: Service) -> None:
    recorder = emptied.recorder()
    for number in range(10):
        _store(emptied, recorder, b"%d" % number)
    started = time.monotonic()
    assert _removed(emptied, "--older-than", "30d", "--batch", "2", "--rate", "5") == 10
    assert time.monotonic() - started > 1.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Say what to remove: --older-than, --device or --point"),
        (["--from", "2026-01-28T10:00:00Z"], "Say what to remove"),
        (["--older-than", "90"], "'90' is not a duration such as 90d"),
        (["--older-than", "3m"], "'3m' is not a duration"),
        (["--device", "x"], "'x' is not a UUID"),
        (["--older-than", "1d", "--from", "2026-01-28"], "is not a time with an offset from UTC"),
        (["--device", "00000000-0000-4000-8000-000000000001"], "There is no device"),
        (
            ["--point", "00000000-0000-4000-8000-000000000001"],
            "No device and no chunk is of the point",
        ),
        (
            ["--older-than", "0d", "--from", "2026-01-02T00:00Z", "--to", "2026-01-01T00:00Z"],
            "--from must be before --to",
        ),
        (["--older-than", "1d", "--status", "PRUNED"], "PRUNED chunks are removed anyway"),
    ],
)
def test_it_refuses_what_it_does_not_understand(
    service: Service, options: list[str], message: str
) -> None:
    result = _prune(service, *options)
    assert result.returncode == 2
    assert message in result.stderr.replace("\n", " ")


def test_it_refuses_when_the_disk_is_not_there(emptied: Service, tmp_path: Path) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    result = _prune(emptied, "--older-than", "1d", AUDIO_STORAGE_DIR=str(tmp_path))
    assert result.returncode == 1
    assert "Mount its disk" in result.stderr
    assert [row["status"] for row in emptied.rows(recorder)] == ["DONE"]
    assert file.exists()


def test_a_person_is_asked_first(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    for answer, status in ((b"n\n", 1), (b"y\n", 0)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, "prune", "--older-than", "1d"],
            env=clean_environ(
                DATABASE_URL=emptied.database_url, AUDIO_STORAGE_DIR=str(emptied.storage)
            ),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            os.write(ours, answer)
            shown = read_terminal(ours)
            assert process.wait(20) == status
        assert "would remove 1 chunks" in shown
        assert file.exists() is bool(status)


# Runs the command and, at the nth file or folder it is about to remove, dies, or waits for the end
# of its input.
INTERRUPTED = """
import os, signal, sys
name, number, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def listen(event, arguments):
    global number
    if event == name and "/audio/" in str(arguments[0]):
        number -= 1
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL) if what == "die" else sys.stdin.read()
sys.addaudithook(listen)
sys.argv[:] = ["flask", "ingest", "prune", "--older-than", "30d", "--batch", "4"]
from flask.cli import main
main()
"""


def _start_interrupted(service: Service, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments],
        env=clean_environ(
            DATABASE_URL=service.database_url, AUDIO_STORAGE_DIR=str(service.storage)
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    "place", [("os.remove", "1"), ("os.remove", "3"), ("os.rmdir", "1"), ("os.remove", "6")]
)
def test_a_prune_that_dies_is_finished_by_the_next(
    emptied: Service, place: tuple[str, str]
) -> None:
    recorder = emptied.recorder()
    files = [_store(emptied, recorder, b"%d" % number) for number in range(10)]
    with _start_interrupted(emptied, *place, "die") as process:
        assert process.wait(30) == -signal.SIGKILL
    rows = emptied.rows(recorder)
    promised = [emptied.storage / row["file_path"] for row in rows if row["status"] == "DONE"]
    assert all(file.exists() for file in promised)
    assert len(promised) < 10
    # What is half done is nobody's finding. An agent that sends it again is not promised it.
    assert (
        flask_ingest(
            emptied.database_url, "fsck", AUDIO_STORAGE_DIR=str(emptied.storage)
        ).returncode
        == 0
    )
    times = {"start_ts": LONG_AGO.isoformat()}
    marked = {row["chunk_id"] for row in rows if row["status"] == "PRUNED"}
    answer = emptied.upload(recorder, b"0", **times)
    blocked = any(str(chunk_id) in files[0].name for chunk_id in marked)
    assert answer.status_code == (503 if blocked else 200)
    _removed(emptied, "--older-than", "30d", "--force")  # its upload looks like a wrong clock
    left = emptied.rows(recorder)
    assert {emptied.storage / row["file_path"] for row in left} == set(emptied.files(recorder))
    assert len(left) <= 1  # the one that was sent again, if its row was gone by then
    assert not set(emptied.files(recorder)) & set(files[1:])


@pytest.mark.parametrize("place", ["os.remove", "os.rmdir"])  # before and after the file is gone
def test_an_upload_of_what_is_being_removed_has_to_try_again_and_is_then_stored_anew(
    emptied: Service, place: str
) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder, b"0")
    with _start_interrupted(emptied, place, "1", "wait") as process:
        eventually(
            lambda: (
                [row["status"] for row in emptied.rows(recorder)] == ["PRUNED"]
                and file.exists() == (place == "os.remove")
            ),
            20,
        )
        answer = emptied.upload(recorder, b"0")
        assert_problem(answer, 503, "database_unavailable")
        assert "Retention is removing this chunk" in answer.json()["detail"]
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert emptied.rows(recorder) == []
    answer = emptied.upload(recorder, b"0")
    assert (answer.status_code, answer.json()["duplicate"]) == (200, False)
    assert file.read_bytes() == b"0"


def test_an_upload_that_overtakes_the_removal_has_its_file(emptied: Service) -> None:
    """The file of the first time goes, and then its row, while an upload of the same chunk has its
    file already and waits for the database."""
    recorder = emptied.recorder()
    file = _store(emptied, recorder, b"0")
    with emptied.connect() as connection, ThreadPoolExecutor() as pool:
        with connection.transaction():
            connection.execute("LOCK TABLE audio_chunks IN SHARE MODE")  # no one may write
            inode = file.stat().st_ino
            upload = pool.submit(emptied.upload, recorder, b"0")
            eventually(lambda: file.stat().st_ino != inode)
            file.unlink()
            connection.execute("DELETE FROM audio_chunks")
        assert upload.result().json()["duplicate"] is False
    assert file.read_bytes() == b"0"


def test_only_one_runs_at_a_time(emptied: Service) -> None:
    """A second one could delete a row, and so let an upload store the chunk anew, whose file the
    first one is just about to remove."""
    recorder = emptied.recorder()
    for number in range(3):
        _store(emptied, recorder, b"%d" % number)
    with _start_interrupted(emptied, "os.remove", "1", "wait") as process:
        eventually(lambda: any(row["status"] == "PRUNED" for row in emptied.rows(recorder)), 20)
        second = _prune(emptied, "--older-than", "30d")
        assert second.returncode == 1
        assert "Another prune, fsck --repair or backup is running" in second.stderr
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert emptied.rows(recorder) == emptied.files(recorder) == []


def test_rows_that_lead_elsewhere_cost_no_other_file(emptied: Service) -> None:
    """One leads to another chunk's, spelled as if it were the row's own."""
    recorder = emptied.recorder()
    files = [_store(emptied, recorder, b"%d" % number) for number in range(3)]
    now = datetime.now(UTC)
    kept = _store(emptied, recorder, b"kept", at=now - timedelta(minutes=1), created_at=now)
    own = [str(file.relative_to(emptied.storage)) for file in files]
    other = str(kept.relative_to(emptied.storage))
    (emptied.folder / "outside").write_bytes(b"not ours")
    chunk_id = own[1].rpartition("_")[2].removesuffix(".ogg")
    odd = ["audio/../../outside", f"audio/{chunk_id}/../../{other}", f"{own[2]}/below-a-file"]
    with emptied.connect() as connection:
        for path, elsewhere in zip(own, odd, strict=True):
            connection.execute(
                "UPDATE audio_chunks SET file_path = %s WHERE file_path = %s", [elsewhere, path]
            )
    assert _prune(emptied, "--older-than", "30d").returncode == 0
    assert not any(file.exists() for file in files)
    assert kept.read_bytes() == b"kept"
    assert (emptied.folder / "outside").read_bytes() == b"not ours"
    assert [row["file_path"] for row in emptied.rows(recorder)] == [other]


def test_a_file_that_cannot_be_removed_stops_nothing_else(emptied: Service) -> None:
    recorder = emptied.recorder()
    _store(emptied, recorder, sha256=None, file_path="audio/proc/status")  # of an earlier service
    (emptied.storage / "audio/proc").symlink_to("/proc/self")
    for data in (b"first", b"second"):
        another = _store(emptied, recorder, data)
        result = _prune(emptied, "--older-than", "30d")
        assert result.returncode == 1
        assert not another.exists()
        assert '"not removed: audio/proc/status: ' in result.stderr
        assert "1 files could not be removed; the log says which" in result.stderr
        assert "Traceback" not in result.stderr
        assert [row["status"] for row in emptied.rows(recorder)] == ["PRUNED"]


def test_who_locks_the_folder_stops_nobody(emptied: Service) -> None:
    """A worker can open the folder, but not what is locked."""
    file = _store(emptied, emptied.recorder())
    descriptor = os.open(emptied.storage, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert _prune(emptied, "--older-than", "30d").returncode == 0
    finally:
        os.close(descriptor)
    assert not file.exists()
    assert stat.filemode((emptied.storage / ".lock").stat().st_mode) == "-rw-------"


def test_a_file_that_another_row_names_stays(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder, b"shared", sha256=None)
    other = _store(emptied, recorder, b"other", sha256=None, status="QUEUED")
    path = str(file.relative_to(emptied.storage)).replace("chunk_", "recording_")[:-40] + ".ogg"
    file.rename(emptied.storage / path)
    with emptied.connect() as connection:
        connection.execute("UPDATE audio_chunks SET file_path = %s", [path])
    assert other.exists()
    assert _removed(emptied, "--older-than", "30d") == 1
    assert (emptied.storage / path).read_bytes() == b"shared"
    assert [row["status"] for row in emptied.rows(recorder)] == ["QUEUED"]
    assert _removed(emptied, "--older-than", "30d", "--status", "QUEUED") == 1
    assert not (emptied.storage / path).exists()


REFERRING = "CREATE TABLE segments (chunk_id uuid REFERENCES audio_chunks ON DELETE {action})"


def test_rows_of_other_tables_do_not_go_unasked(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    file = _store(service, recorder)
    with service.connect() as connection:
        connection.execute(REFERRING.format(action="CASCADE"))
        connection.execute("INSERT INTO segments SELECT chunk_id FROM audio_chunks")
        result = _prune(service, "--older-than", "1d")
        assert (result.returncode, file.exists()) == (1, True)
        assert "Rows in segments reference these chunks" in result.stderr
        assert _removed(service, "--older-than", "1d", "--cascade") == 1
        assert connection.execute("SELECT count(*) FROM segments").fetchone() == (0,)
        connection.execute("DROP TABLE segments")
        connection.execute(REFERRING.format(action="NO ACTION"))
    _store(service, recorder)
    result = _prune(service, "--older-than", "1d", "--cascade")
    assert result.returncode == 1
    assert "segments references chunks, and its foreign key prevents" in result.stderr
    assert [row["status"] for row in service.rows(recorder)] == ["DONE"]


def test_a_clock_that_jumped_does_not_remove_everything(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder)
    seen = datetime.now(UTC) - timedelta(days=91)
    with emptied.connect() as connection:
        connection.execute("UPDATE devices SET last_seen_at = %s", [seen])
    result = _prune(emptied, "--older-than", "90d")
    assert (result.returncode, file.exists()) == (1, True)
    assert f"No device was seen since {seen:%Y-%m-%d %H:%M} UTC" in result.stderr
    assert _removed(emptied, "--older-than", "90d", "--force") == 1


FILL = """
    INSERT INTO audio_chunks (
        chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec,
        sample_rate, channels, file_path, file_size_bytes, status, created_at
    )
    SELECT ('00000000' || substr(gen_random_uuid()::text, 9))::uuid, device_id, point_id,
        register_id, start_ts - age, end_ts - age, 60, codec, sample_rate, channels,
        'audio/' || gen_random_uuid(), 1, 'DONE', created_at - age
    FROM audio_chunks, generate_series(1, %s) AS number,
        LATERAL (SELECT interval '1 min' * number AS age) AS ages
    WHERE file_path = %s
"""


def _fill(service: Service, recorder: Recorder, number: int, *, age: timedelta) -> None:
    """Chunks, one a minute, of which the last was recorded and received that long ago, and has a
    file. The ids of the others are those of long ago."""
    template = _store(service, recorder, b"%d" % age.days)
    with service.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE audio_chunks SET start_ts = now() - %s - interval '1 min', end_ts = now() - %s,"
            " created_at = now() - %s WHERE file_path = %s",
            [age, age, age, str(template.relative_to(service.storage))],
        )
        connection.execute(FILL, [number - 1, str(template.relative_to(service.storage))])


def _leap(service: Service, ahead: timedelta) -> None:
    """Let the clock of the machine, and so of PostgreSQL, be ahead: all that it dated is older."""
    with service.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE devices SET last_seen_at = last_seen_at - %s", [ahead])
        connection.execute(
            "UPDATE audio_chunks SET created_at = created_at - %(ahead)s,"
            " start_ts = start_ts - %(ahead)s, end_ts = end_ts - %(ahead)s",
            {"ahead": ahead},
        )


@pytest.mark.parametrize("days", [400, 30])
def test_an_upload_by_a_clock_that_jumped_opens_no_door(emptied: Service, days: int) -> None:
    recorder, ahead = emptied.recorder(), timedelta(days=days)
    _fill(emptied, recorder, 20, age=timedelta(days=70))
    _fill(emptied, recorder, 20, age=timedelta())
    _leap(emptied, ahead)
    since = datetime.now(UTC) - ahead  # by the device's clock, which is right
    times = {"start_ts": since.isoformat(), "end_ts": (since + timedelta(minutes=1)).isoformat()}
    assert emptied.upload(recorder, **times).status_code == 200
    for preview in ([], ["--dry-run"]):
        result = _prune(emptied, "--older-than", "90d", *preview)
        assert result.returncode == 1
        assert f"latest recordings were received {days - 1} days after their end" in result.stderr
        assert f"the clock, which says {datetime.now(UTC):%Y-%m-%d}" in result.stderr
    assert len(emptied.rows(recorder)) == 41
    assert _removed(emptied, "--older-than", "90d", "--force") == (40 if days == 400 else 20)


def test_an_unusual_share_has_to_be_meant(emptied: Service) -> None:
    recorder = emptied.recorder()
    _fill(emptied, recorder, 150, age=timedelta(days=91))
    _fill(emptied, recorder, 140, age=timedelta())
    assert _prune(emptied, "--older-than", "90d", "--dry-run").returncode == 0
    result = _prune(emptied, "--older-than", "90d")
    assert result.returncode == 1
    assert "It would remove 150 of 290 chunks" in result.stderr
    assert "--force" in result.stderr
    assert len(emptied.rows(recorder)) == 290
    assert _removed(emptied, "--older-than", "90d", "--force") == 150


@pytest.mark.parametrize(
    ("old", "kept"),
    [
        pytest.param([(100, 91)], [], id="few, and all"),
        pytest.param([(101, 91)], [(101, 0)], id="half"),
        pytest.param([(150, 91)], [(160, 29)], id="closed for four weeks"),
        pytest.param([(150, 91)], [(150, 3), (10, 0)], id="a spool has arrived"),
    ],
)
def test_what_is_usual_needs_no_force(
    emptied: Service, old: list[tuple[int, int]], kept: list[tuple[int, int]]
) -> None:
    recorder = emptied.recorder()
    for number, days in [*old, *kept]:
        _fill(emptied, recorder, number, age=timedelta(days=days))
    assert _removed(emptied, "--older-than", "90d") == sum(number for number, _ in old)
    assert len(emptied.rows(recorder)) == sum(number for number, _ in kept)


def test_an_erasure_may_take_any_share(emptied: Service) -> None:
    recorder = emptied.recorder()
    _fill(emptied, recorder, 101, age=timedelta())
    assert _removed(emptied, "--point", str(recorder.device.point_id)) == 101


def test_it_goes_by_the_clock_that_dated_the_rows(emptied: Service) -> None:
    with connect(Settings.from_environ({"DATABASE_URL": emptied.database_url})) as connection:
        for off, refused in (("0 s", False), ("5 min", True)):
            connection.execute(
                "CREATE SCHEMA IF NOT EXISTS fake;"
                " CREATE OR REPLACE FUNCTION fake.clock_timestamp() RETURNS timestamptz"
                f" LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() + interval '{off}' $$;"
                " SET search_path = fake, public, pg_catalog"
            )
            with pytest.raises(retention.Refused) if refused else nullcontext():
                retention.received_before(connection, timedelta(days=1), force=False)


def test_an_interrupted_run_tells_how_many_are_gone(emptied: Service) -> None:
    recorder = emptied.recorder()
    for number in range(10):
        _store(emptied, recorder, b"%d" % number)
    command = [*COMMAND, "prune", "--older-than", "30d", "--yes", "--rate", "1"]
    environ = clean_environ(
        DATABASE_URL=emptied.database_url, AUDIO_STORAGE_DIR=str(emptied.storage)
    )
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: not emptied.rows(recorder), 20)
        process.send_signal(signal.SIGINT)  # it waits, because ten may go in ten seconds
        _, told = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "removed 10 chunks before it stopped" in told


@pytest.mark.parametrize("command", [["prune", "--older-than", "30d"], ["requeue"]], ids=" ".join)
def test_a_point_whose_device_was_moved_is_known(emptied: Service, command: list[str]) -> None:
    recorder = emptied.recorder()
    _store(emptied, recorder, status="ERROR")
    with emptied.connect() as connection:
        connection.execute("UPDATE devices SET point_id = gen_random_uuid()")
    point = ["--point", str(recorder.device.point_id), "--yes"]
    result = flask_ingest(
        emptied.database_url, *command, *point, AUDIO_STORAGE_DIR=str(emptied.storage)
    )
    assert result.returncode == 0, result.stderr
    assert ("removed 1 chunks" if "prune" in command else "requeued 1 chunk ") in result.stdout


def test_what_an_interrupted_run_has_left_is_told(emptied: Service) -> None:
    recorder, other = emptied.recorder(), emptied.recorder()
    _store(emptied, recorder, status="PRUNED")
    device = ["--device", str(other.device.device_id)]
    plan = _prune(emptied, *device, "--dry-run").stdout.splitlines()
    assert plan == [
        "would remove 0 chunks (0.0 MB)",
        "would finish an interrupted run first: 1 chunks (0.2 MB): 1 PRUNED",
    ]
    assert _removed(emptied, *device) == 1


def test_an_erasure_tells_what_it_kept(emptied: Service) -> None:
    recorder = emptied.recorder()
    for status in ("QUEUED", "PROCESSING", "DONE", "ERROR", "UPLOADED"):
        _store(emptied, recorder, status.encode(), status=status)
    device = ["--device", str(recorder.device.device_id)]
    result = _prune(emptied, *device, "--status", "DONE", "--status", "QUEUED")
    assert result.returncode == 0
    assert result.stdout.splitlines()[1] == (
        "kept 3 chunks (0.0 MB): 1 ERROR, 1 PROCESSING, 1 UPLOADED; see --status"
    )
    with emptied.connect() as connection, connection.transaction():
        connection.execute("SELECT FROM audio_chunks WHERE status = 'ERROR' FOR UPDATE")
        result = _prune(emptied, *device, "--status", "all", "--json")
        assert result.returncode == 1  # a worker holds one
        assert json.loads(result.stdout)["kept"] == [{"status": "ERROR", "chunks": 1, "bytes": 5}]
    result = _prune(emptied, *device, "--status", "all", "--json")
    assert (result.returncode, json.loads(result.stdout)["kept"]) == (0, [])
    assert emptied.rows(recorder) == emptied.files(recorder) == []


def test_a_status_of_the_earlier_service_can_be_named(emptied: Service) -> None:
    recorder = emptied.recorder()
    file = _store(emptied, recorder, sha256=None, status="Transcribed")
    assert _removed(emptied, "--older-than", "30d", "--status", "Transcribed") == 1
    assert not file.exists()


def test_a_device_whose_recordings_were_erased_goes_on(emptied: Service) -> None:
    recorder = emptied.recorder()
    _store(emptied, recorder)
    _removed(emptied, "--device", str(recorder.device.device_id))
    assert emptied.upload(recorder, b"new").status_code == 200
    missing = emptied.upload(recorder, b"", start_ts=LONG_AGO.isoformat())
    assert_problem(missing, 422, "empty_file")


def test_the_ids_of_what_is_gone_are_remembered_for_a_week(emptied: Service) -> None:
    path = _store(emptied, emptied.recorder())
    with emptied.connect() as connection:
        connection.execute(
            "INSERT INTO pruned_chunks SELECT gen_random_uuid(), 1, now() - age * interval '1 day'"
            " FROM (VALUES (6), (8), (9)) AS ages (age)"
        )
        assert _removed(emptied, "--older-than", "90d") == 1
        rows = connection.execute(
            "SELECT chunk_id, now() - pruned_at FROM pruned_chunks ORDER BY pruned_at"
        ).fetchall()
    assert [age.days for _, age in rows] == [6, 0]
    assert str(rows[1][0]) in path.name


def test_an_erasure_takes_a_chunk_from_the_worker_that_has_it(emptied: Service) -> None:
    recorder = emptied.recorder()
    path = _store(emptied, recorder, status="QUEUED")
    worker = HttpWorker(emptied)
    [chunk] = worker.claim(lease_sec=3600)
    device = str(recorder.device.device_id)
    assert _removed(emptied, "--device", device, "--status", "all") == 1
    assert not path.exists()
    assert_problem(worker.done(chunk), 410, "chunk_pruned")
    # Sent again it begins anew, but for the number that is the fence.
    times = {"start_ts": LONG_AGO.isoformat()}
    times["end_ts"] = (LONG_AGO + timedelta(minutes=1)).isoformat()
    assert emptied.upload(recorder, **times).json()["chunk_id"] == chunk["chunk_id"]
    other = HttpWorker(emptied, "worker-2")
    [again] = other.claim()
    assert again["attempt"] == 2
    assert_problem(worker.done(chunk), 409, "lease_lost")
    assert other.done(again).status_code == 200
