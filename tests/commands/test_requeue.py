"""`flask ingest requeue`: what is meant goes into the queue again, and nothing else is touched."""

import json
import os
import pty
import re
import signal
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from support.commands import COMMAND, Result, flask_ingest, flask_ingest_process
from support.leases import START, HttpWorker, SqlWorker, row, upload_chunks
from support.problems import assert_problem
from support.processes import eventually, read_terminal
from support.recorder import Recorder
from support.service import Service, clean_environ

from ingest_api.database import queries
from ingest_api.database.statements import statement

UNKNOWN = "00000000-0000-4000-8000-000000000001"
REMOVED = "00000000-0000-4000-8000-000000000002"
REDIS = {"QUEUE_BACKEND": "redis"}


def _requeue(service: Service, *options: str, **settings: str) -> Result:
    return flask_ingest(service.database_url, "requeue", *options, **settings)


def _requeued(service: Service, *options: str, **settings: str) -> int:
    result = _requeue(service, "--json", *options, **settings)
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["held"] == told["refused"] == []
    number: int = told["requeued"]
    return number


def _statuses(service: Service) -> dict[str, int]:
    with service.connect() as connection:
        rows = connection.execute("SELECT status, count(*) FROM audio_chunks GROUP BY status")
        return dict(rows.fetchall())


def _move(service: Service, status: str, chunk_ids: list[str], message: str | None = None) -> None:
    with service.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET status = %s, error_message = %s WHERE chunk_id = ANY(%s)",
            [status, message, chunk_ids],
        )


@pytest.fixture
def recorder(emptied: Service) -> Recorder:
    return emptied.recorder()


@pytest.fixture
def failed(emptied: Service, recorder: Recorder) -> list[str]:
    """The ids of four chunks that were given up, recorded at ten and in the three minutes after."""
    ids = upload_chunks(emptied, recorder, range(4))
    worker = HttpWorker(emptied)
    for chunk in worker.claim(4):
        assert worker.error(chunk, "cannot decode", retry=False).status_code == 200
    return ids


def _fill(service: Service, recorder: Recorder, chunks: int, status: str = "ERROR") -> None:
    """So many copies of one chunk."""
    upload_chunks(service, recorder, [0])
    columns = "device_id, point_id, register_id, start_ts, end_ts, duration_sec, codec, sample_rate"
    columns += ", channels, file_path, file_size_bytes, sha256"
    with service.connect() as connection:
        connection.execute(
            f"INSERT INTO audio_chunks (chunk_id, {columns}, status)"
            f" SELECT gen_random_uuid(), {columns}, '{status}'"
            f" FROM audio_chunks, generate_series(2, {chunks})"
        )
        connection.execute("UPDATE audio_chunks SET status = %s", [status])


def test_a_chunk_is_as_if_never_tried(emptied: Service, failed: list[str]) -> None:
    result = _requeue(emptied, failed[1])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("requeued 1 chunk (now QUEUED) in 0.")
    assert row(emptied, failed[1]) == row(emptied, failed[1]) | {
        "status": "QUEUED",
        "attempts": 1,
        "attempts_forgiven": 1,
        "worker": None,
        "processing_started_at": None,
        "lease_expires_at": None,
        "error_message": None,
        "finished_at": None,
    }
    assert [row(emptied, chunk_id)["status"] for chunk_id in failed].count("ERROR") == 3


def test_a_chunk_gets_all_its_attempts_again(emptied: Service, recorder: Recorder) -> None:
    [chunk_id] = upload_chunks(emptied, recorder, [0])
    worker = HttpWorker(emptied)
    for number in range(10):
        [chunk] = worker.claim()
        assert chunk["attempt"] == number + 1
        worker.error(chunk, "try again", retry=True)
        given_up = row(emptied, chunk_id)["status"] == "ERROR"
        assert given_up is (number in {4, 9})  # MAX_ATTEMPTS is 5
        assert _requeued(emptied, "--all") == given_up


def test_chunks_are_chosen_by_shop_recorder_time_and_error(
    emptied: Service, failed: list[str], recorder: Recorder
) -> None:
    other = emptied.recorder()
    elsewhere = upload_chunks(emptied, other, range(2))
    _move(emptied, "ERROR", elsewhere, "disk full")
    minute = [(START + timedelta(minutes=number)).isoformat() for number in range(5)]
    device = ["--device", str(recorder.device.device_id)]
    assert _requeued(emptied, *device, "--error", "disk") == 0
    assert _requeued(emptied, *device, "--from", minute[1], "--to", minute[2]) == 1
    assert row(emptied, failed[1])["status"] == "QUEUED"
    assert _requeued(emptied, "--to", minute[1]) == 2
    assert _requeued(emptied, "--from", minute[3]) == 1
    assert _requeued(emptied, "--point", str(other.device.point_id)) == 1
    assert _requeued(emptied, *device) == 1
    assert _statuses(emptied) == {"QUEUED": 6}


@pytest.mark.parametrize(
    ("text", "found"),
    [("timeout", 1), ("TIMEOUT", 1), ("%", 1), ("_", 1), ("\\", 1), ("t%t", 0), ("größe", 1)],
)
def test_the_text_of_an_error_is_taken_literally(
    emptied: Service, failed: list[str], text: str, found: int
) -> None:
    messages = ("Timeout after 5 s", "100 % lost", "a_b: C:\\x", "falsche Größe")
    for chunk_id, message in zip(failed, messages, strict=True):
        _move(emptied, "QUEUED", [chunk_id])
        _move(emptied, "ERROR", [chunk_id], message)
    assert _requeued(emptied, "--error", text) == found


def test_what_is_done_is_processed_again_only_when_asked(
    emptied: Service, failed: list[str]
) -> None:
    _move(emptied, "QUEUED", failed[:2])
    _move(emptied, "DONE", failed[:2])
    assert _requeued(emptied, "--all") == 2
    result = _requeue(emptied, failed[0])
    assert (result.returncode, result.stdout[:17]) == (1, "requeued 0 chunks")
    assert result.stderr == (
        f"not requeued: {failed[0]}: it is DONE; to requeue it: --status DONE\n"
    )
    assert _requeued(emptied, failed[0], "--status", "done") == 1
    assert _requeued(emptied, "--status", "DONE", "--status", "ERROR", "--all") == 1
    assert _statuses(emptied) == {"QUEUED": 4}


def test_what_cannot_be_requeued_is_named_and_the_rest_is(
    emptied: Service, failed: list[str]
) -> None:
    _move(emptied, "PRUNED", failed[:1])
    _move(emptied, "QUEUED", failed[1:2])
    with emptied.connect() as connection:
        connection.execute("INSERT INTO pruned_chunks VALUES (%s)", [REMOVED])
    ids = [UNKNOWN, REMOVED, *failed[:3], failed[2]]
    result = _requeue(emptied, *ids)
    assert result.returncode == 1
    assert result.stdout.startswith("requeued 1 chunk (now QUEUED) ")
    assert result.stderr.splitlines() == [
        f"not requeued: {UNKNOWN}: there is no such chunk",
        f"not requeued: {REMOVED}: retention has removed it",
        f"not requeued: {failed[0]}: it is PRUNED: retention is removing it",
        f"not requeued: {failed[1]}: it is already QUEUED",
    ]
    result = _requeue(emptied, *ids, "--json")
    assert (result.returncode, result.stderr) == (1, "")
    refused = json.loads(result.stdout)["refused"]
    assert [(each["status"], each["waits"]) for each in refused] == [
        (None, False),
        (None, False),
        ("PRUNED", False),
        ("QUEUED", True),
        ("QUEUED", True),
    ]


def test_what_waits_already_is_no_failure(emptied: Service, failed: list[str]) -> None:
    assert _requeue(emptied, failed[0]).returncode == 0
    again = _requeue(emptied, failed[0])
    assert again.returncode == 0
    assert "it is already QUEUED" in again.stderr


def test_a_chunk_without_its_file_is_left_until_the_file_is_back(
    emptied: Service, failed: list[str], recorder: Recorder
) -> None:
    storage = {"AUDIO_STORAGE_DIR": str(emptied.storage)}
    [lost] = [file for file in emptied.files(recorder) if failed[0] in file.name]
    saved = lost.read_bytes()
    lost.unlink()
    flask_ingest(emptied.database_url, "fsck", "--repair", **storage)
    cure = "bring it back and run: flask ingest fsck --repair"
    result = _requeue(emptied, "--error", "decode")
    assert (result.returncode, result.stdout[:17]) == (1, "requeued 3 chunks")
    assert result.stderr == f"left 1 chunk whose file is missing: {cure}\n"
    result = _requeue(emptied, failed[0], "--status", "DONE", "--status", "ERROR")
    assert (result.returncode, result.stdout[:17]) == (1, "requeued 0 chunks")
    assert result.stderr == f"not requeued: {failed[0]}: its file is missing: {cure}\n"
    assert row(emptied, failed[0])["error_message"] == "file missing (was ERROR: cannot decode)"
    lost.write_bytes(saved)
    flask_ingest(emptied.database_url, "fsck", "--repair", **storage)
    assert _requeued(emptied, failed[0]) == 1


def test_a_chunk_is_taken_from_a_worker_whose_late_result_is_refused(
    emptied: Service, recorder: Recorder
) -> None:
    [chunk_id] = upload_chunks(emptied, recorder, [0])
    gone, other = HttpWorker(emptied, "gone"), HttpWorker(emptied, "other")
    [held] = gone.claim(lease_sec=3600)
    assert _requeue(emptied, chunk_id).returncode == 1
    assert _requeued(emptied, chunk_id, "--status", "PROCESSING") == 1
    assert_problem(gone.done(held), 409, "lease_lost")
    [taken] = other.claim()
    assert taken["attempt"] == held["attempt"] + 1
    assert_problem(gone.error(held, "late", retry=False), 409, "lease_lost")
    assert_problem(gone.extend(held, 60), 409, "lease_lost")
    assert other.done(taken).status_code == 200
    assert row(emptied, chunk_id)["worker"] == "other"


def test_only_what_hangs_is_taken_from_workers_with_plain_sql(
    emptied: Service, recorder: Recorder
) -> None:
    hanging, busy = upload_chunks(emptied, recorder, range(2))
    SqlWorker(emptied.database_url).take(2)
    with emptied.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET processing_started_at = now() - interval '3 h'"
            " WHERE chunk_id = %s",
            [hanging],
        )
    assert _requeued(emptied, "--status", "PROCESSING", "--in-work-for", "2h") == 1
    assert row(emptied, hanging)["status"] == "QUEUED"
    assert row(emptied, busy)["status"] == "PROCESSING"


def test_with_redis_chunks_are_announced_again(emptied: Service, failed: list[str]) -> None:
    assert _requeued(emptied, failed[0], **REDIS) == 1
    assert row(emptied, failed[0])["status"] == "UPLOADED"
    _move(emptied, "QUEUED", failed[1:2])  # it was announced, and Redis has lost that
    result = _requeue(emptied, failed[1], **REDIS)
    assert result.returncode == 1
    assert "it is QUEUED; to requeue it: --status QUEUED" in result.stderr
    assert _requeued(emptied, "--status", "QUEUED", "--all", **REDIS) == 1
    assert _statuses(emptied) == {"UPLOADED": 2, "ERROR": 2}
    # Without Redis again:
    assert _requeued(emptied, "--status", "UPLOADED", "--all") == 2
    assert _statuses(emptied) == {"QUEUED": 2, "ERROR": 2}


def test_it_tells_what_it_would_do(emptied: Service, failed: list[str]) -> None:
    _move(emptied, "QUEUED", failed[:2])
    _move(emptied, "DONE", failed[:1])
    with emptied.connect() as connection:
        assert queries.files.mark_file_missing(connection, UUID(failed[2]))
    before = [row(emptied, chunk_id) for chunk_id in failed]
    result = _requeue(emptied, "--all", "--dry-run")
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "would requeue 1 chunk: 1 ERROR",
        "would keep 2 chunks: 1 DONE, 1 QUEUED; see --status",
    ]
    assert "left 1 chunk whose file is missing" in result.stderr
    result = _requeue(emptied, "--all", "--dry-run", "--json", "--status", "DONE")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "would_requeue": {"DONE": 1},
        "would_keep": {"ERROR": 2, "QUEUED": 1},
        "file_missing": 0,
        "refused": [],
    }
    result = _requeue(emptied, failed[3], failed[1], UNKNOWN, "--dry-run")
    assert (result.returncode, result.stdout) == (1, "would requeue 1 chunk: 1 ERROR\n")
    assert len(result.stderr.splitlines()) == 2
    assert [row(emptied, chunk_id) for chunk_id in failed] == before


def test_what_another_session_holds_is_told_and_left(emptied: Service, failed: list[str]) -> None:
    with emptied.connect() as connection, connection.transaction():
        connection.execute("SELECT FROM audio_chunks WHERE chunk_id = %s FOR UPDATE", [failed[2]])
        result = _requeue(emptied, "--all")
        assert (result.returncode, result.stdout[:17]) == (1, "requeued 3 chunks")
        assert result.stderr.splitlines() == [
            f"not requeued: {failed[2]}: another session is holding it",
            "1 chunk held by other sessions. Run it again",
        ]
        result = _requeue(emptied, failed[2], "--json")
        assert (result.returncode, json.loads(result.stdout)["held"]) == (1, [failed[2]])
    assert _requeued(emptied, "--all") == 1


def test_large_selections_go_in_batches(emptied: Service, recorder: Recorder) -> None:
    _fill(emptied, recorder, 2500)
    assert _requeued(emptied, "--device", str(recorder.device.device_id)) == 2500
    assert _statuses(emptied) == {"QUEUED": 2500}
    with emptied.connect() as connection:
        batches = connection.execute(
            "SELECT count(*) FROM audio_chunks GROUP BY xmin ORDER BY 1"
        ).fetchall()
    assert batches == [(500,), (1000,), (1000,)]


def test_two_at_once_requeue_everything_once(emptied: Service, recorder: Recorder) -> None:
    _fill(emptied, recorder, 6000)
    with ThreadPoolExecutor() as pool:
        command = (flask_ingest_process, emptied.database_url, "requeue", "--all", "--json")
        runs = [pool.submit(*command) for _ in range(2)]
        told = [json.loads(run.result().stdout) for run in runs]
    assert sum(each["requeued"] for each in told) == 6000
    assert _statuses(emptied) == {"QUEUED": 6000}


def test_nothing_is_requeued_twice_by_one_run(emptied: Service, recorder: Recorder) -> None:
    """While workers finish again, as fast as they can, what is requeued."""
    _fill(emptied, recorder, 3000, "DONE")
    worker = SqlWorker(emptied.database_url)
    with ThreadPoolExecutor() as pool:
        run = pool.submit(_requeued, emptied, "--all", "--status", "DONE", "--status", "ERROR")
        counts: Counter[Any] = Counter()
        while not run.done() or counts.total() < run.result():
            taken = worker.take(50)
            counts.update(taken)
            for chunk_id in taken:
                worker.error(chunk_id, "again")
    assert run.result() == 3000
    assert set(counts.values()) == {1}


def _on_terminal(service: Service, *options: str, answer: bytes = b"") -> tuple[int, str]:
    """The exit status, and what was shown to a person who gave this answer."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "requeue", *options],
        env=clean_environ(DATABASE_URL=service.database_url, TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.write(ours, answer)
        shown = read_terminal(ours)
        return process.wait(20), shown


def test_a_person_is_asked_first(emptied: Service, failed: list[str]) -> None:
    status, shown = _on_terminal(emptied, "--all", answer=b"n\n")
    assert status == 1
    assert "would requeue 4 chunks: 4 ERROR\r\nRequeue them? [y/N]: " in shown
    assert _statuses(emptied) == {"ERROR": 4}
    status, shown = _on_terminal(emptied, "--to", START.isoformat())
    assert (status, "Requeue them?" in shown) == (0, False)  # as there are none
    status, shown = _on_terminal(emptied, failed[0])
    assert (status, "Requeue them?" in shown) == (0, False)  # as this one was named
    status, shown = _on_terminal(emptied, "--error", "decode", "--yes")
    assert (status, "Requeue them?" in shown) == (0, False)
    assert "100%" in shown
    assert _statuses(emptied) == {"QUEUED": 4}


def _is_in_a_later_batch(service: Service) -> bool:
    """So it has counted the first: that this is in the table is not enough."""
    if _statuses(service).get("QUEUED", 0) == 0:
        return False
    asleep = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = %s"
    with service.connect() as connection:
        return connection.execute(asleep, [connection.info.dbname]).rowcount == 1


def test_ctrl_c_tells_how_far_it_got(emptied: Service, recorder: Recorder) -> None:
    _fill(emptied, recorder, 5000)
    with emptied.connect() as connection:
        connection.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;"
            "CREATE TRIGGER dawdle AFTER UPDATE ON audio_chunks EXECUTE FUNCTION dawdle()"
        )
        try:
            with subprocess.Popen(
                [*COMMAND, "requeue", "--all"],
                env=clean_environ(DATABASE_URL=emptied.database_url),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                eventually(lambda: _is_in_a_later_batch(emptied), 20)
                process.send_signal(signal.SIGINT)
                output, errors = process.communicate(timeout=20)
        finally:
            connection.execute("DROP TRIGGER dawdle ON audio_chunks; DROP FUNCTION dawdle()")
    assert (process.returncode, output) == (1, "")
    requeued = _statuses(emptied)["QUEUED"]
    assert requeued in {1000, 2000, 3000}
    assert errors == f"requeued {requeued:,} chunks before it stopped\nError: interrupted\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Say which chunks: ids, --device, --point, --from, --to, --error or --in-work-for;"),
        (["--status", "DONE"], "Say which chunks: ids"),
        ([UNKNOWN, "--all"], "Give either ids or options that select chunks, not both"),
        ([UNKNOWN, "--error", "x"], "Give either ids or options that select chunks"),
        (["x"], "'x' is not a UUID"),
        (["--device", UNKNOWN], f"There is no device {UNKNOWN}"),
        (["--point", UNKNOWN], f"No device and no chunk is of the point {UNKNOWN}"),
        (["--from", "2026-01-28"], "is not a time with an offset from UTC"),
        (["--from", "2026-01-02T00:00Z", "--to", "2026-01-01T00:00Z"], "--from must be before"),
        (["--error", ""], "must be printable and not empty"),
        (["--error", os.fsdecode(b"\xff")], "must be printable and not empty"),
        (["--all", "--status", "PRUNED"], "'PRUNED' is not one of"),
        (["--all", "--status", "QUEUED"], "These chunks are already QUEUED; omit --status"),
        (["--in-work-for", "2h"], "--in-work-for requires --status PROCESSING alone"),
        (["--in-work-for", "2", "--status", "PROCESSING"], "is not a duration"),
    ],
)
def test_it_refuses_what_it_does_not_understand(
    emptied: Service, options: list[str], message: str
) -> None:
    result = _requeue(emptied, *options)
    assert result.returncode == 2
    assert message in " ".join(result.stderr.split())


def test_with_redis_what_is_uploaded_waits_already(emptied: Service) -> None:
    result = _requeue(emptied, "--all", "--status", "UPLOADED", **REDIS)
    assert result.returncode == 2
    assert "These chunks are already UPLOADED" in result.stderr


def test_without_a_database_it_says_so() -> None:
    result = flask_ingest("postgresql://nobody@127.0.0.1:1/none", "requeue", "--all")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: The database failed (DATABASE_URL): ")


def test_what_is_counted_is_what_is_requeued() -> None:
    """The two statements choose by the same conditions."""

    def conditions(name: str) -> set[str]:
        where = " ".join(statement(f"queue/{name}").decode().partition("WHERE")[2].split())
        parts = re.split(r" AND (?=[(a-z])| (?:GROUP|ORDER) BY |\) FOR UPDATE", where)
        return {part.rstrip(")") for part in parts if part.startswith("(%(")}

    assert len(conditions("count_requeueable")) == 7
    assert conditions("count_requeueable") == conditions("requeue_chunks")
