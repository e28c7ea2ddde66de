"""Who may move a chunk from where to where (sql/README.md), for every client: the
workers in the field with their plain SQL beside those that use HTTP."""

import threading
from collections import Counter
from uuid import UUID

import psycopg
import pytest
from support.leases import HttpWorker, SqlWorker, let_leases_expire, row, upload_chunks
from support.problems import assert_problem
from support.processes import eventually
from support.recorder import Recorder
from support.service import Service

STATUSES = ("UPLOADED", "QUEUED", "PROCESSING", "DONE", "ERROR", "PRUNED")
WAITING = ("UPLOADED", "QUEUED")
ALLOWED = {
    "UPLOADED": {"QUEUED", "PROCESSING", "DONE", "ERROR", "PRUNED"},
    "QUEUED": {"UPLOADED", "PROCESSING", "DONE", "ERROR", "PRUNED"},
    "PROCESSING": {"UPLOADED", "QUEUED", "DONE", "ERROR", "PRUNED"},
    "DONE": {"UPLOADED", "QUEUED", "PRUNED"},
    "ERROR": {"UPLOADED", "QUEUED", "PRUNED"},
    "PRUNED": set(),
}
VOID = {("DONE", "ERROR"), ("ERROR", "DONE"), ("PRUNED", "DONE"), ("PRUNED", "ERROR")}
PATHS = {
    "UPLOADED": ["UPLOADED"],
    "QUEUED": [],
    "PROCESSING": ["PROCESSING"],
    "DONE": ["PROCESSING", "DONE"],
    "ERROR": ["PROCESSING", "ERROR"],
    "PRUNED": ["PRUNED"],
}


@pytest.fixture
def chunk_id(emptied: Service) -> str:
    return upload_chunks(emptied, emptied.recorder(), [0])[0]


@pytest.fixture
def sql_worker(emptied: Service) -> SqlWorker:
    return SqlWorker(emptied.database_url)


@pytest.fixture
def http_worker(emptied: Service) -> HttpWorker:
    return HttpWorker(emptied)


def _move(service: Service, chunk_id: str, status: str) -> None:
    with service.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET status = %s WHERE chunk_id = %s", [status, chunk_id]
        )


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_only_the_moves_of_the_table_are_made(
    emptied: Service, chunk_id: str, before: str, after: str
) -> None:
    for status in PATHS[before]:
        _move(emptied, chunk_id, status)
    assert row(emptied, chunk_id)["status"] == before
    if after in ALLOWED[before] or after == before:
        _move(emptied, chunk_id, after)
        assert row(emptied, chunk_id)["status"] == after
    elif (before, after) in VOID:
        _move(emptied, chunk_id, after)
        assert row(emptied, chunk_id)["status"] == before
    else:
        with pytest.raises(psycopg.errors.CheckViolation, match=f"from {before} to {after}"):
            _move(emptied, chunk_id, after)


def test_no_chunk_gets_a_status_that_nobody_knows(emptied: Service, chunk_id: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        _move(emptied, chunk_id, "DOING")


def test_nor_does_one_of_the_earlier_service(emptied: Service, chunk_id: str) -> None:
    with emptied.connect() as connection:
        connection.execute("UPDATE audio_chunks SET sha256 = NULL")
    with pytest.raises(psycopg.errors.CheckViolation, match="there is no status done"):
        _move(emptied, chunk_id, "done")


def test_nobody_resets_the_fence(emptied: Service, chunk_id: str) -> None:
    _move(emptied, chunk_id, "PROCESSING")
    for change in ("attempts = 0", "attempts = 7, status = 'DONE'"):
        with (
            emptied.connect() as connection,
            pytest.raises(psycopg.errors.CheckViolation, match="the fence"),
        ):
            connection.execute(f"UPDATE audio_chunks SET {change}")
    assert row(emptied, chunk_id)["attempts"] == 1


def test_the_workers_in_the_field_work_unchanged(
    emptied: Service, sql_worker: SqlWorker, recorder: Recorder
) -> None:
    ids = [UUID(found) for found in upload_chunks(emptied, emptied.recorder(), [2, 0, 1])]
    first, second = sql_worker.take(2)
    assert [first, second] == [ids[1], ids[2]]
    taken = row(emptied, first)
    assert (taken["status"], taken["attempts"], taken["worker"]) == ("PROCESSING", 1, None)
    assert sql_worker.done(first) == 1
    assert sql_worker.error(second, "no speech") == 1
    assert row(emptied, first)["status"] == "DONE"
    failed = row(emptied, second)
    assert (failed["status"], failed["error_message"]) == ("ERROR", "no speech")
    assert failed["processing_started_at"] is None
    assert failed["finished_at"] is not None


def test_they_requeue_what_is_stale(emptied: Service, chunk_id: str, sql_worker: SqlWorker) -> None:
    [taken] = sql_worker.take(1)
    assert sql_worker.requeue_stale(600) == 0
    assert sql_worker.requeue_stale(0) == 1
    assert row(emptied, chunk_id)["status"] == "QUEUED"
    assert sql_worker.take(1) == [taken]
    assert row(emptied, chunk_id)["attempts"] == 2


def test_they_do_not_requeue_what_is_leased(
    emptied: Service, chunk_id: str, sql_worker: SqlWorker, http_worker: HttpWorker
) -> None:
    [chunk] = http_worker.claim()
    sql_worker.requeue_stale(0)
    assert sql_worker.take(1) == []
    assert http_worker.done(chunk).status_code == 200


def test_they_requeue_an_expired_lease(
    emptied: Service, chunk_id: str, sql_worker: SqlWorker, http_worker: HttpWorker
) -> None:
    [chunk] = http_worker.claim()
    let_leases_expire(emptied)
    sql_worker.requeue_stale(0)
    [taken] = sql_worker.take(1)
    assert_problem(http_worker.done(chunk), 409, "lease_lost")
    sql_worker.done(taken)
    assert row(emptied, chunk_id)["attempts"] == 2


@pytest.mark.parametrize("finish", ["done", "error"])
def test_a_late_result_does_not_end_anothers_lease(
    emptied: Service, chunk_id: str, sql_worker: SqlWorker, http_worker: HttpWorker, finish: str
) -> None:
    [taken] = sql_worker.take(1)
    sql_worker.requeue_stale(0)
    [chunk] = http_worker.claim()
    # One row, as far as a worker can tell: object mappers take fewer for an error.
    late = sql_worker.done(taken) if finish == "done" else sql_worker.error(taken, "late")
    assert late == 1
    stored = row(emptied, chunk_id)
    assert (stored["status"], stored["worker"]) == ("PROCESSING", "worker-1")
    assert stored["error_message"] is None
    assert stored["lease_expires_at"] is not None
    assert http_worker.done(chunk).status_code == 200


def test_a_late_result_does_not_change_an_earlier_one(
    emptied: Service, chunk_id: str, sql_worker: SqlWorker, http_worker: HttpWorker
) -> None:
    [taken] = sql_worker.take(1)
    sql_worker.requeue_stale(0)
    [chunk] = http_worker.claim()
    http_worker.done(chunk)
    before = row(emptied, chunk_id)
    sql_worker.error(taken, "late")
    assert row(emptied, chunk_id) == before


def test_a_late_result_does_not_keep_a_row_whose_file_is_removed(
    emptied: Service, chunk_id: str, sql_worker: SqlWorker
) -> None:
    [taken] = sql_worker.take(1)
    _move(emptied, chunk_id, "PRUNED")
    sql_worker.done(taken)
    assert row(emptied, chunk_id)["status"] == "PRUNED"


def test_a_late_result_of_a_chunk_that_waits_again_counts(
    emptied: Service, chunk_id: str, sql_worker: SqlWorker
) -> None:
    [taken] = sql_worker.take(1)
    sql_worker.requeue_stale(0)
    sql_worker.done(taken)
    assert row(emptied, chunk_id)["status"] == "DONE"


def test_http_cannot_finish_what_a_worker_with_plain_sql_has(
    emptied: Service, chunk_id: str, sql_worker: SqlWorker, http_worker: HttpWorker
) -> None:
    [taken] = sql_worker.take(1)
    chunk = {"chunk_id": str(taken), "attempt": 1}
    assert_problem(http_worker.done(chunk), 409, "lease_lost")
    assert_problem(http_worker.extend(chunk, 60), 409, "lease_lost")
    assert row(emptied, chunk_id)["status"] == "PROCESSING"


def test_both_kinds_of_workers_share_a_queue(emptied: Service) -> None:
    """Side by side until all is done: each chunk by one of them, and by one only."""
    ids = upload_chunks(emptied, emptied.recorder(), range(120))
    finished: Counter[str] = Counter()
    kinds: Counter[str] = Counter()

    def by_http(name: str) -> None:
        worker = HttpWorker(emptied, name)
        while chunks := worker.claim(3):
            for chunk in chunks:
                # A worker says it again after a 503: the machine may be busy, the row locked.
                assert eventually(lambda chunk=chunk: worker.done(chunk).status_code == 200)
                finished[chunk["chunk_id"]] += 1
                kinds["http"] += 1

    def by_sql() -> None:
        worker = SqlWorker(emptied.database_url)
        while taken := worker.take(3):
            worker.requeue_stale(60)
            for chunk_id in taken:
                worker.done(chunk_id)
                finished[str(chunk_id)] += 1
                kinds["sql"] += 1

    threads = [threading.Thread(target=by_http, args=[f"worker-{n}"]) for n in range(4)]
    threads += [threading.Thread(target=by_sql) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished == Counter(ids)
    assert set(kinds) == {"http", "sql"}
    with emptied.connect() as connection:
        states = connection.execute(
            "SELECT status, attempts, count(*) FROM audio_chunks GROUP BY 1, 2"
        ).fetchall()
    assert states == [("DONE", 1, len(ids))]
