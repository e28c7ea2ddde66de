"""`flask ingest queue`: what it shows is true, and cheap however much is done."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.commands import COMMAND, flask_ingest
from support.leases import HttpWorker, SqlWorker, let_leases_expire, upload_chunks
from support.processes import eventually, read_terminal
from support.service import Service, clean_environ

STATEMENTS = Path(__file__).parents[2] / "sql" / "queries" / "queue"
NOTHING = {"UPLOADED": 0, "QUEUED": 0, "PROCESSING": 0, "DONE": 0, "ERROR": 0, "PRUNED": 0}
NEVER = {"oldest_recording": None, "longest_seconds": None}

INSERT = """
INSERT INTO audio_chunks (
    chunk_id, device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec, sample_rate,
    channels, file_path, file_size_bytes, sha256, status, created_at, finished_at
)
SELECT gen_random_uuid(), device_id, point_id, register_id, at, at + interval '1 min', 60, 'opus',
    48000, 1, 'audio/' || number, 1, nullif(sha256(''), CASE WHEN {legacy} THEN sha256('') END),
    '{status}', at, CASE WHEN '{status}' IN ('DONE', 'ERROR') THEN at END
FROM devices, generate_series(1, {chunks}) AS number,
    LATERAL (SELECT now() - {age} * interval '1 min' - number * interval '1 ms') AS time (at)
"""


def _insert(url: str, status: str, chunks: int, *, age: float = 1, legacy: bool = False) -> None:
    """So many chunks, received and, if they are finished, finished `age` minutes ago."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO devices (device_id, point_id, register_id, token_hash)"
            " VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '')"
            " ON CONFLICT DO NOTHING"
        )
        connection.execute(INSERT.format(status=status, chunks=chunks, age=age, legacy=legacy))


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _look(url: str) -> dict[str, Any]:
    result = flask_ingest(url, "queue", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def _lines(url: str) -> list[str]:
    result = flask_ingest(url, "queue")
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_it_shows_an_empty_queue(database_url: str) -> None:
    assert _lines(database_url) == [
        "STATUS      CHUNKS",
        "UPLOADED         0",
        "QUEUED           0",
        "PROCESSING       0",
        "DONE             0",
        "ERROR            0",
        "PRUNED           0",
        "",
        "last hour: 0 received, 0 done, 0 error; nothing is waiting",
        "",
        "no worker has a chunk, or has finished one in the last hour",
    ]
    told = _look(database_url)
    assert told.pop("time").endswith("Z")
    assert told == {
        "states": NOTHING,
        "estimated": [],
        "waiting": {"UPLOADED": NEVER, "QUEUED": NEVER},
        "in_work": {"oldest_seconds": None, "expired_leases": 0},
        "last_hour": {"received": 0, "done": 0, "error": 0},
        "empty_in_seconds": None,
        "workers": [],
    }


@pytest.fixture
def busy(emptied: Service) -> Service:
    """Nine chunks: five wait, two workers have one each, two are finished."""
    upload_chunks(emptied, emptied.recorder(), range(9))
    worker, other = HttpWorker(emptied, "asr-2"), HttpWorker(emptied, "asr-1")
    first, second = worker.claim(2)
    worker.done(first)
    worker.error(second, "no speech", retry=False)
    other.claim()
    SqlWorker(emptied.database_url).take(1)
    return emptied


def test_it_tells_programs_what_waits_and_who_works(busy: Service) -> None:
    _execute(
        busy.database_url,
        "UPDATE audio_chunks SET created_at = now() - interval '90 s' WHERE status = 'QUEUED';"
        "UPDATE audio_chunks SET processing_started_at = now() - interval '5 min'"
        " WHERE worker IS NULL AND status = 'PROCESSING'",
    )
    told = _look(busy.database_url)
    assert told["states"] == NOTHING | {"QUEUED": 5, "PROCESSING": 2, "DONE": 1, "ERROR": 1}
    queued = told["waiting"]["QUEUED"]
    assert queued["oldest_recording"] == "2026-01-28T10:04:00Z"
    assert 90 <= queued["longest_seconds"] < 100
    assert told["waiting"]["UPLOADED"] == NEVER
    assert 300 <= told["in_work"]["oldest_seconds"] < 310
    assert told["last_hour"] == {"received": 9, "done": 1, "error": 1}
    idle = {"in_work": 0, "oldest_seconds": None, "done": 0, "error": 0}
    seconds = [worker["oldest_seconds"] for worker in told["workers"]]
    assert told["workers"] == [
        idle | {"worker": "asr-1", "in_work": 1, "oldest_seconds": seconds[0]},
        idle | {"worker": "asr-2", "done": 1, "error": 1},
        idle | {"worker": None, "in_work": 1, "oldest_seconds": seconds[2]},
    ]
    assert seconds[0] < 10
    assert seconds[2] == told["in_work"]["oldest_seconds"]


def test_it_tells_people_in_columns(busy: Service) -> None:
    _execute(
        busy.database_url,
        "UPDATE audio_chunks SET created_at = now() - interval '190 s' WHERE status = 'QUEUED';"
        "UPDATE audio_chunks SET processing_started_at = now() - interval '5 min 5 s'"
        " WHERE status = 'PROCESSING'",
    )
    assert _lines(busy.database_url) == [
        "STATUS      CHUNKS",
        "UPLOADED         0",
        "QUEUED           5  oldest recorded 2026-01-28 10:04:00 UTC; longest wait 3 min",
        "PROCESSING       2  oldest in progress for 5 min",
        "DONE             1",
        "ERROR            1",
        "PRUNED           0",
        "",
        "last hour: 9 received, 1 done, 1 error; at this rate the queue grows by 7 an hour",
        "",
        "WORKER       IN PROGRESS  OLDEST  DONE/H  ERROR/H",
        "asr-1                  1   5 min       0        0",
        "asr-2                  0       -       1        1",
        "(plain SQL)            1   5 min       0        0",
    ]


def test_it_counts_leases_that_have_expired(busy: Service) -> None:
    let_leases_expire(busy)
    assert _look(busy.database_url)["in_work"]["expired_leases"] == 1
    [line] = [line for line in _lines(busy.database_url) if line.startswith("PROCESSING")]
    assert line.endswith("; 1 with an expired lease")


def test_a_name_from_outside_cannot_upset_the_terminal(busy: Service) -> None:
    _execute(busy.database_url, r"UPDATE audio_chunks SET worker = E'a\x1b[2Jb' WHERE worker <> ''")
    assert any(line.startswith(r"a\x1b[2Jb  ") for line in _lines(busy.database_url))
    assert _look(busy.database_url)["workers"][0]["worker"] == "a\x1b[2Jb"


def test_what_fsck_gives_up_is_no_work_of_a_worker(emptied: Service) -> None:
    recorder = emptied.recorder()
    upload_chunks(emptied, recorder, range(2))
    emptied.files(recorder)[0].unlink()
    storage = {"AUDIO_STORAGE_DIR": str(emptied.storage)}
    assert flask_ingest(emptied.database_url, "fsck", "--repair", **storage).returncode == 1
    told = _look(emptied.database_url)
    assert (told["states"]["ERROR"], told["last_hour"]["error"], told["workers"]) == (1, 0, [])


def test_what_is_not_announced_yet_is_shown(database_url: str) -> None:
    _insert(database_url, "UPLOADED", 3, age=120)
    told = _look(database_url)
    assert told["states"] == NOTHING | {"UPLOADED": 3}
    assert 7200 <= told["waiting"]["UPLOADED"]["longest_seconds"] < 7300
    assert told["waiting"]["QUEUED"] == NEVER
    assert _lines(database_url)[1].endswith("; longest wait 2 h")


@pytest.mark.parametrize(
    ("waiting", "received", "done", "prospects"),
    [
        (0, 0, 7, "nothing is waiting"),
        (300, 5, 25, "at this rate the queue is empty in 15 h"),
        (1000, 3000, 1000, "at this rate the queue grows by 2,000 an hour"),
        (10, 0, 0, "at this rate the queue stays as long as it is"),
    ],
)
def test_it_says_where_the_queue_is_going(
    database_url: str, waiting: int, received: int, done: int, prospects: str
) -> None:
    _insert(database_url, "QUEUED", waiting, age=120)
    _insert(database_url, "PROCESSING", received)
    _insert(database_url, "DONE", done)
    _execute(
        database_url,
        "UPDATE audio_chunks SET created_at = created_at - interval '1 d' WHERE status = 'DONE'",
    )
    [line] = [line for line in _lines(database_url) if line.startswith("last hour")]
    assert line == f"last hour: {received:,} received, {done:,} done, 0 error; {prospects}"


@pytest.fixture(scope="module")
def large_url(new_database: Callable[..., str]) -> Iterator[str]:
    """A database with far more DONE than are counted, of which the statistics know nothing yet."""
    url = new_database()
    _execute(url, "ALTER TABLE audio_chunks SET (autovacuum_enabled = false)")
    _insert(url, "DONE", 120_000, age=10_000)
    _insert(url, "QUEUED", 200)
    _insert(url, "ERROR", 100)
    _insert(url, "Transcribed", 10_000, age=20_000, legacy=True)
    yield url


@pytest.mark.slow
def test_it_admits_what_it_has_not_counted(large_url: str) -> None:
    told = _look(large_url)
    assert told["states"] == NOTHING | {"DONE": 100_000, "QUEUED": 200, "ERROR": 100}
    assert told["estimated"] == ["DONE"]
    assert "DONE        over 100,000" in _lines(large_url)
    _execute(large_url, "VACUUM ANALYZE audio_chunks")
    told = _look(large_url)
    assert told["estimated"] == ["DONE", "Transcribed"]
    assert told["states"]["DONE"] == pytest.approx(120_000, rel=0.02)
    assert told["states"]["Transcribed"] == pytest.approx(10_000, rel=0.2)
    assert (told["states"]["QUEUED"], told["states"]["ERROR"]) == (200, 100)
    lines = _lines(large_url)
    assert lines[4].split() == ["DONE", "about", f"{told['states']['DONE']:,}"]
    assert lines[7].split() == ["Transcribed", "about", f"{told['states']['Transcribed']:,}"]


@pytest.mark.parametrize("name", ["list_queue_states", "list_queue_workers"])
def test_looking_never_reads_all_that_is_done(large_url: str, name: str) -> None:
    text = (STATEMENTS / f"{name}.sql").read_text()
    with psycopg.connect(large_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE audio_chunks")
        plan = connection.execute(f"EXPLAIN {text}", {"countable": 100_000}).fetchall()
    assert "audio_chunks" in str(plan)
    assert "Seq Scan on audio_chunks" not in str(plan)


def _start_watching(url: str, *options: str, stdout: int = subprocess.PIPE) -> Any:
    return subprocess.Popen(
        [*COMMAND, "queue", "--watch", "--every", "1", *options],
        env=clean_environ(DATABASE_URL=url, TERM="xterm"),
        stdout=stdout,
        stderr=subprocess.PIPE if stdout == subprocess.PIPE else stdout,
        text=True,
    )


def test_a_person_watches_until_ctrl_c(database_url: str) -> None:
    ours, theirs = pty.openpty()
    with _start_watching(database_url, stdout=theirs) as process:
        os.close(theirs)
        shown = ""
        while shown.count("no worker has a chunk") < 2:
            shown += os.read(ours, 4096).decode()
        _insert(database_url, "QUEUED", 1234)
        while "1,234" not in shown:
            shown += os.read(ours, 4096).decode()
        process.send_signal(signal.SIGINT)
        shown += read_terminal(ours)
        assert process.wait(20) == 0
    assert "Traceback" not in shown
    screens = shown.split("\x1b[2J\x1b[1;1H")
    assert screens[0] == ""
    assert len(screens) > 3
    for screen in screens[1:-1]:
        assert " UTC, every 1 s, Ctrl-C to end" in screen.splitlines()[0]
        assert screen.count("STATUS") == 1


def test_what_is_watched_by_a_program_is_an_object_a_line(database_url: str) -> None:
    with _start_watching(database_url, "--json") as process:
        looks = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert all(json.loads(line)["states"] == NOTHING for line in rest.splitlines())
    times = [look["time"] for look in looks]
    assert times == sorted(set(times))


def test_what_is_watched_into_a_file_is_parted_by_blank_lines(database_url: str) -> None:
    with _start_watching(database_url) as process:
        text = "".join(process.stdout.readline() for _ in range(2 * 14))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert "\x1b" not in text
    lines = text.splitlines()
    assert [line for line in lines if " UTC, every 1 s" in line] == [lines[0], lines[14]]
    assert lines[13] == ""


def test_a_database_that_goes_ends_the_watching(database_url: str) -> None:
    watched = "datname = current_database() AND application_name = 'ingest_api'"
    with _start_watching(database_url) as process:
        process.stdout.readline()
        with psycopg.connect(database_url, autocommit=True) as connection:
            end = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {watched}"
            eventually(lambda: connection.execute(end).fetchone() == (0,))
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.startswith("Error: The database failed (DATABASE_URL): ")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--every", "5"], "--every requires --watch"),
        (["--watch", "--every", "0"], "0 is not in the range 1<=x<=3600"),
        (["--watch", "--every", "nan"], "'nan' is not a valid integer"),
    ],
)
def test_it_refuses_what_it_does_not_understand(
    database_url: str, options: list[str], message: str
) -> None:
    result = flask_ingest(database_url, "queue", *options)
    assert result.returncode == 2
    assert message in result.stderr


def test_it_needs_the_schema_of_today(new_database: Callable[..., str]) -> None:
    result = flask_ingest(new_database(migrated=False), "queue")
    assert (result.returncode, result.stdout) == (1, "")
    assert "flask ingest migrate" in result.stderr


def test_looking_changes_nothing(busy: Service) -> None:
    with busy.connect() as connection:
        rows = "SELECT xmin, ctid, chunk_id FROM audio_chunks ORDER BY chunk_id"
        before = connection.execute(rows).fetchall()
        _look(busy.database_url)
        assert connection.execute(rows).fetchall() == before
