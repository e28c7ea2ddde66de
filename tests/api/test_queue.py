"""POST /api/v1/internal/claim and what follows: each chunk to one worker at a time."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import requests
from support.leases import (
    HEADERS,
    HttpWorker,
    SqlWorker,
    let_leases_expire,
    row,
    upload_chunks,
)
from support.problems import assert_problem
from support.service import INTERNAL_TOKEN, Service

from ingest_api.usecases.leases import CROWD


@pytest.fixture
def worker(emptied: Service) -> HttpWorker:
    return HttpWorker(emptied)


def _lease_seconds(chunk: dict) -> float:
    expires = datetime.fromisoformat(chunk["lease_expires_at"])
    return (expires - datetime.now(UTC)).total_seconds()


def test_it_gives_the_oldest_recordings_first(emptied: Service, worker: HttpWorker) -> None:
    recorder = emptied.recorder()
    ids = upload_chunks(emptied, recorder, [3, 1, 2])
    assert [chunk["chunk_id"] for chunk in worker.claim(2)] == [ids[1], ids[2]]
    assert [chunk["chunk_id"] for chunk in worker.claim(2)] == [ids[0]]
    assert worker.claim(2) == []


def test_a_claimed_chunk_comes_with_its_attempt_and_the_end_of_its_lease(
    emptied: Service, worker: HttpWorker
) -> None:
    [chunk_id] = upload_chunks(emptied, emptied.recorder(), [0])
    [chunk] = worker.claim(lease_sec=60)
    assert (chunk["chunk_id"], chunk["attempt"], chunk["worker"]) == (chunk_id, 1, "worker-1")
    assert chunk["status"] == "PROCESSING"
    assert 50 < _lease_seconds(chunk) <= 60
    assert chunk == worker.get(chunk_id).json() | {"attempt": 1}
    assert {"file_path", "sha256", "file_size_bytes", "start_ts", "codec"} < set(chunk)


def test_the_answer_tells_the_servers_time(worker: HttpWorker) -> None:
    told = datetime.fromisoformat(worker.post("claim", worker="w").json()["server_time"])
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=5)


def test_it_gives_only_a_shops_chunks_when_asked(emptied: Service, worker: HttpWorker) -> None:
    one, other = emptied.recorder(), emptied.recorder()
    upload_chunks(emptied, one, [0])
    [wanted] = upload_chunks(emptied, other, [5])
    chunks = worker.claim(10, point_id=str(other.device.point_id))
    assert [chunk["chunk_id"] for chunk in chunks] == [wanted]
    assert worker.claim(10, point_id=str(uuid4())) == []


def test_no_chunk_is_given_twice_however_many_ask_at_once(emptied: Service) -> None:
    ids = upload_chunks(emptied, emptied.recorder(), range(60))
    workers = [HttpWorker(emptied, f"worker-{number}") for number in range(12)]
    with ThreadPoolExecutor(len(workers)) as threads:
        claims = threads.map(lambda worker: [c for _ in range(4) for c in worker.claim(2)], workers)
        given = [chunk["chunk_id"] for claimed in claims for chunk in claimed]
    assert sorted(given) == sorted(ids)


def test_done_ends_it(emptied: Service, worker: HttpWorker) -> None:
    upload_chunks(emptied, emptied.recorder(), [0])
    [chunk] = worker.claim()
    assert worker.done(chunk).json()["status"] == "DONE"
    stored = row(emptied, chunk["chunk_id"])
    assert (stored["status"], stored["worker"], stored["attempts"]) == ("DONE", "worker-1", 1)
    assert stored["finished_at"] is not None
    assert stored["lease_expires_at"] is stored["processing_started_at"] is None
    assert worker.claim() == []


def test_an_error_gives_the_chunk_up_or_back(emptied: Service, worker: HttpWorker) -> None:
    upload_chunks(emptied, emptied.recorder(), [0])
    [chunk] = worker.claim()
    answer = worker.error(chunk, "the network", retry=True).json()
    assert (answer["status"], answer["error_message"]) == ("QUEUED", "the network")
    [again] = worker.claim()
    assert again["attempt"] == 2
    answer = worker.error(again, "not a recording", retry=False).json()
    assert (answer["status"], answer["error_message"]) == ("ERROR", "not a recording")
    assert worker.claim() == []


def test_what_was_said_may_be_said_again(emptied: Service, worker: HttpWorker) -> None:
    """The answer of the first time may have been lost."""
    upload_chunks(emptied, emptied.recorder(), [0, 1, 2])
    first, second, third = worker.claim(3)
    for _ in range(2):
        assert worker.done(first).json()["status"] == "DONE"
        assert worker.error(second, "broken", retry=False).json()["status"] == "ERROR"
        assert worker.error(third, "later", retry=True).json()["status"] == "QUEUED"


def test_done_and_error_exclude_each_other(emptied: Service, worker: HttpWorker) -> None:
    upload_chunks(emptied, emptied.recorder(), [0, 1])
    first, second = worker.claim(2)
    worker.done(first)
    assert_problem(worker.error(first, "after all", retry=True), 409, "lease_lost")
    worker.error(second, "broken", retry=False)
    assert_problem(worker.done(second), 409, "lease_lost")
    assert row(emptied, first["chunk_id"])["status"] == "DONE"
    assert row(emptied, second["chunk_id"])["status"] == "ERROR"


def test_done_is_not_for_the_work_of_another(emptied: Service, worker: HttpWorker) -> None:
    """A worker with plain SQL has finished it after the lease had expired."""
    upload_chunks(emptied, emptied.recorder(), [0, 1])
    first, second = worker.claim(2)
    let_leases_expire(emptied)
    other = SqlWorker(emptied.database_url)
    other.done(UUID(first["chunk_id"]))
    other.error(UUID(second["chunk_id"]), "no speech")
    assert_problem(worker.done(first), 409, "lease_lost")
    assert_problem(worker.error(second, "no speech", retry=False), 409, "lease_lost")
    assert row(emptied, first["chunk_id"])["worker"] is None


def test_a_lease_can_be_extended(emptied: Service, worker: HttpWorker) -> None:
    upload_chunks(emptied, emptied.recorder(), [0])
    [chunk] = worker.claim(lease_sec=10)
    assert 3590 < _lease_seconds(worker.extend(chunk, 3600).json()) <= 3600
    assert worker.done(chunk).status_code == 200


def test_an_expired_lease_is_given_out_again_and_the_first_worker_is_fenced_off(
    emptied: Service, worker: HttpWorker
) -> None:
    upload_chunks(emptied, emptied.recorder(), [0])
    [chunk] = worker.claim()
    let_leases_expire(emptied)
    other = HttpWorker(emptied, "worker-2")
    [again] = other.claim()
    assert (again["chunk_id"], again["attempt"]) == (chunk["chunk_id"], 2)
    assert_problem(worker.extend(chunk, 60), 409, "lease_lost")
    assert_problem(worker.done(chunk), 409, "lease_lost")
    assert_problem(worker.error(chunk, "too late", retry=False), 409, "lease_lost")
    stored = row(emptied, chunk["chunk_id"])
    assert (stored["status"], stored["worker"]) == ("PROCESSING", "worker-2")
    assert other.done(again).status_code == 200


def test_a_lease_that_expired_and_was_not_missed_is_still_good(
    emptied: Service, worker: HttpWorker
) -> None:
    upload_chunks(emptied, emptied.recorder(), [0])
    [chunk] = worker.claim()
    let_leases_expire(emptied)
    assert worker.extend(chunk, 60).status_code == 200
    let_leases_expire(emptied)
    assert worker.done(chunk).status_code == 200


def test_a_running_lease_is_not_given_out_again(emptied: Service, worker: HttpWorker) -> None:
    upload_chunks(emptied, emptied.recorder(), [0])
    worker.claim(lease_sec=60)
    assert HttpWorker(emptied, "worker-2").claim(10) == []


def test_after_the_last_attempt_it_becomes_an_error_and_stays(start_service) -> None:
    service = start_service(MAX_ATTEMPTS="2")
    worker = HttpWorker(service)
    [chunk_id] = upload_chunks(service, service.recorder(), [0])
    for attempt in (1, 2):
        [chunk] = worker.claim()
        assert chunk["attempt"] == attempt
        let_leases_expire(service)
    assert worker.claim() == []
    stored = worker.get(chunk_id).json()
    assert stored["status"] == "ERROR"
    assert stored["error_message"] == "the lease of attempt 2 expired (worker worker-1)"
    assert any(
        line["level"] == "WARNING" and f"{chunk_id} is ERROR" in line["message"]
        for line in service.log()
    )
    assert (service.storage / stored["file_path"]).exists()


def test_an_error_on_the_last_attempt_is_not_tried_again(start_service) -> None:
    service = start_service(MAX_ATTEMPTS="1")
    worker = HttpWorker(service)
    upload_chunks(service, service.recorder(), [0])
    [chunk] = worker.claim()
    assert worker.error(chunk, "again", retry=True).json()["status"] == "ERROR"


def test_a_chunk_can_be_claimed_by_its_id(emptied: Service, worker: HttpWorker) -> None:
    first, second = upload_chunks(emptied, emptied.recorder(), [0, 1])
    path = f"chunks/{second}/claim"
    chunk = worker.post(path, worker="consumer", lease_sec=30).json()
    assert (chunk["chunk_id"], chunk["attempt"], chunk["worker"]) == (second, 1, "consumer")
    problem = assert_problem(worker.post(path, worker="other"), 409, "chunk_in_work")
    assert problem["retryable"] is True
    worker.done(chunk)
    problem = assert_problem(worker.post(path, worker="other"), 409, "chunk_finished")
    assert "DONE" in problem["detail"]
    assert [chunk["chunk_id"] for chunk in worker.claim(10)] == [first]


def test_a_chunk_whose_lease_expired_can_be_claimed_by_its_id(
    emptied: Service, worker: HttpWorker
) -> None:
    [chunk_id] = upload_chunks(emptied, emptied.recorder(), [0])
    worker.claim()
    let_leases_expire(emptied)
    assert worker.post(f"chunks/{chunk_id}/claim", worker="w").json()["attempt"] == 2


def _fill(service: Service, devices: dict[str, int]) -> dict[UUID, str]:
    """A backlog by SQL: device names and how many chunks wait of each, one name's being older than
    the next one's."""
    names = {}
    for number, (name, waiting) in enumerate(devices.items()):
        device = service.recorder().device
        names[device.device_id] = name
        with service.connect() as connection:
            connection.execute(
                "INSERT INTO audio_chunks (chunk_id, device_id, point_id, register_id, start_ts,"
                " end_ts, duration_sec, codec, sample_rate, channels, file_path, file_size_bytes,"
                " sha256, status) SELECT gen_random_uuid(), %s, %s, %s, t, t + interval '1 min',"
                " 60, 'opus', 48000, 1, 'audio/none', 1, sha256('x'), 'QUEUED' FROM"
                " (SELECT timestamptz '2026-01-01' + %s * interval '1 day' + n * interval '1 min'"
                " AS t FROM generate_series(1, %s) AS n) AS times",
                [device.device_id, device.point_id, device.register_id, number, waiting],
            )
    return names


@pytest.mark.parametrize("limit", [1, 4, 10])
def test_a_large_backlog_does_not_keep_other_devices_waiting(
    emptied: Service, worker: HttpWorker, limit: int
) -> None:
    others = {f"other-{number}": 3 for number in range(8)}
    names = _fill(emptied, {"backlog": 1000} | others)
    given = [
        names[UUID(chunk["device_id"])] for _ in range(80 // limit) for chunk in worker.claim(limit)
    ]
    # The two processes go through the devices each for itself.
    assert set(given) == {"backlog", *others}
    assert 40 <= Counter(given)["backlog"] <= 60
    assert min(Counter(given)[name] for name in others) >= 2


def test_within_a_shop_too_every_device_has_its_turn(emptied: Service, worker: HttpWorker) -> None:
    names = _fill(emptied, {"backlog": 300, "other": 10, "elsewhere": 300})
    shop = str(uuid4())
    with emptied.connect() as connection:
        for device_id, name in names.items():
            if name != "elsewhere":
                connection.execute(
                    "UPDATE audio_chunks SET point_id = %s WHERE device_id = %s", [shop, device_id]
                )
    given = Counter()
    for _ in range(10):
        given.update(names[UUID(c["device_id"])] for c in worker.claim(4, point_id=shop))
        worker.claim(4)
    assert set(given) == {"backlog", "other"}
    assert given["other"] >= 5


def test_a_locked_chunk_ends_no_turn(emptied: Service, worker: HttpWorker) -> None:
    """Those who come behind it have theirs."""
    names = _fill(emptied, {"backlog": 1000} | {f"other-{number}": 1 for number in range(10)})
    with emptied.connect() as connection, connection.transaction():
        connection.execute(
            "SELECT FROM audio_chunks WHERE device_id IN (SELECT device_id FROM audio_chunks"
            " GROUP BY 1 HAVING count(*) = 1 ORDER BY 1 LIMIT 5) FOR UPDATE"
        )
        given = {names[UUID(chunk["device_id"])] for _ in range(60) for chunk in worker.claim(1)}
    assert len(given) == 1 + 5


def test_within_a_backlog_too_the_oldest_come_first(emptied: Service, worker: HttpWorker) -> None:
    _fill(emptied, {"backlog": CROWD + 50})
    starts = [chunk["start_ts"] for _ in range(10) for chunk in worker.claim(10)]
    assert starts == sorted(starts)
    assert len(starts) == 100


def test_while_few_wait_age_alone_decides(emptied: Service, worker: HttpWorker) -> None:
    names = _fill(emptied, {"old": CROWD - 10, "new": 10})
    given = [names[UUID(chunk["device_id"])] for chunk in worker.claim(CROWD)]
    assert given == ["old"] * (CROWD - 10) + ["new"] * 10


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "worker"),
        ({"worker": ""}, "worker"),
        ({"worker": "a\nb"}, "worker"),
        ({"worker": "a\0b"}, "worker"),
        ({"worker": "\ud800"}, "worker"),
        ({"worker": 7}, "worker"),
        ({"worker": "x" * 101}, "worker"),
        ({"worker": "w", "limit": 0}, "limit"),
        ({"worker": "w", "limit": 101}, "limit"),
        ({"worker": "w", "limit": "5"}, "limit"),
        ({"worker": "w", "limit": 1.5}, "limit"),
        ({"worker": "w", "limit": True}, "limit"),
        ({"worker": "w", "lease_sec": 0}, "lease_sec"),
        ({"worker": "w", "lease_sec": 86401}, "lease_sec"),
        ({"worker": "w", "lease_sec": 10**400}, "lease_sec"),
        ({"worker": "w", "point_id": "x"}, "point_id"),
        ({"worker": "w", "points": []}, "points"),
    ],
)
def test_a_malformed_claim_is_refused(worker: HttpWorker, body: dict, field: str) -> None:
    problem = assert_problem(worker.post("claim", **body), 422, "validation_error")
    assert set(problem["errors"]) == {field}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": "m", "retry": True}, "attempt"),
        ({"attempt": 0, "message": "m", "retry": True}, "attempt"),
        ({"attempt": 2**31, "message": "m", "retry": True}, "attempt"),
        ({"attempt": 1, "message": "", "retry": True}, "message"),
        ({"attempt": 1, "message": "\0", "retry": True}, "message"),
        ({"attempt": 1, "message": "x" * 10_001, "retry": True}, "message"),
        ({"attempt": 1, "message": "m", "retry": "yes"}, "retry"),
        ({"attempt": 1, "message": "m"}, "retry"),
    ],
)
def test_a_malformed_error_is_refused(
    emptied: Service, worker: HttpWorker, body: dict, field: str
) -> None:
    upload_chunks(emptied, emptied.recorder(), [0])
    [chunk] = worker.claim()
    response = worker.post(f"chunks/{chunk['chunk_id']}/error", **body)
    assert set(assert_problem(response, 422, "validation_error")["errors"]) == {field}
    assert row(emptied, chunk["chunk_id"])["status"] == "PROCESSING"


@pytest.mark.parametrize("verb", ["claim", "extend", "done", "error"])
def test_what_is_unknown_is_not_found(worker: HttpWorker, verb: str) -> None:
    bodies = {
        "claim": {"worker": "w"},
        "error": {"attempt": 1, "message": "m", "retry": False},
    }
    body = bodies.get(verb, {"attempt": 1})
    for chunk_id in (uuid4(), "x"):
        response = worker.post(f"chunks/{chunk_id}/{verb}", **body)
        assert_problem(response, 404, "chunk_not_found")


def test_they_need_the_internal_token(emptied: Service, start_service) -> None:
    closed = start_service(INTERNAL_TOKEN="")
    other = {"Authorization": f"Bearer {emptied.recorder().token}"}
    for path in ("claim", f"chunks/{uuid4()}/done", f"chunks/{uuid4()}/file"):
        url = f"/api/v1/internal/{path}"
        call = requests.get if path.endswith("file") else requests.post
        assert_problem(call(emptied.url + url), 401, "missing_token")
        assert_problem(call(emptied.url + url, headers=other), 401, "invalid_internal_token")
        refusal = call(closed.url + url, headers=HEADERS)
        problem = assert_problem(refusal, 401, "internal_not_configured")
        assert problem["detail"] == "Internal endpoint not configured"
    assert INTERNAL_TOKEN not in emptied.log_path.read_text()


@pytest.mark.parametrize("verb", ["done", "extend", "error", "claim"])
def test_a_report_waits_for_no_lock(emptied: Service, worker: HttpWorker, verb: str) -> None:
    """It would hold a connection that uploads need."""
    upload_chunks(emptied, emptied.recorder(), [0])
    [chunk] = worker.claim()
    report = {
        "done": lambda: worker.done(chunk),
        "extend": lambda: worker.extend(chunk, 60),
        "error": lambda: worker.error(chunk, "m", retry=False),
        "claim": lambda: worker.post(f"chunks/{chunk['chunk_id']}/claim", worker="w"),
    }[verb]
    with emptied.connect() as connection, connection.transaction():
        connection.execute("SELECT FROM audio_chunks FOR UPDATE")
        answer = report()
        status, code = (409, "chunk_in_work") if verb == "claim" else (503, "chunk_locked")
        assert assert_problem(answer, status, code)["retryable"] is True
    assert worker.done(chunk).status_code == 200


def test_what_cannot_be_told_is_not_given_away(emptied: Service, worker: HttpWorker) -> None:
    """A time that Python does not know, in a row of the earlier service."""
    first, odd = upload_chunks(emptied, emptied.recorder(), [0, 1])
    with emptied.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET sha256 = NULL, end_ts = 'infinity' WHERE chunk_id = %s", [odd]
        )
    assert_problem(worker.post("claim", worker="w", limit=2), 500, "internal_error")
    for chunk_id in (first, odd):
        stored = row(emptied, chunk_id, "status, attempts")
        assert stored == {"status": "QUEUED", "attempts": 0}


@pytest.mark.slow
def test_a_claim_that_takes_too_long_gives_nothing_away(
    emptied: Service, worker: HttpWorker
) -> None:
    [chunk_id] = upload_chunks(emptied, emptied.recorder(), [0])
    with emptied.connect() as connection:
        connection.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(1.9); RETURN NULL; END $$;"
            "CREATE TRIGGER dawdle AFTER UPDATE ON audio_chunks EXECUTE FUNCTION dawdle();"
            "UPDATE audio_chunks SET status = 'PROCESSING'"
        )
        connection.execute("UPDATE audio_chunks SET lease_expires_at = now()")
        try:
            # To expire a lease and to give another take each less than the server's limit.
            answer = worker.post("claim", worker="w")
            assert_problem(answer, 503, "database_unavailable")
        finally:
            connection.execute("DROP FUNCTION dawdle CASCADE")
    stored = row(emptied, chunk_id, "status, attempts, worker")
    assert stored == {"status": "PROCESSING", "attempts": 1, "worker": None}


def test_a_claim_waits_for_no_lock(emptied: Service, worker: HttpWorker) -> None:
    """Somebody may hold a chunk in an open transaction, as the workers in the field do."""
    first, second = upload_chunks(emptied, emptied.recorder(), [0, 1])
    with emptied.connect() as connection, connection.transaction():
        connection.execute(
            "SELECT FROM audio_chunks WHERE chunk_id = %s FOR UPDATE", [first]
        ).fetchall()
        assert [chunk["chunk_id"] for chunk in worker.claim(10)] == [second]
    assert [chunk["chunk_id"] for chunk in worker.claim(10)] == [first]
