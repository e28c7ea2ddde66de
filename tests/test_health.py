"""/health tells the truth in time; the service outlives its database."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from local_postgres import LocalPostgres
from support import Service, assert_problem, descendants_of, eventually, flask_ingest


def _health(service: Service) -> tuple[int, dict[str, object]]:
    response = requests.get(f"{service.url}/health", timeout=10)
    return response.status_code, response.json()


def test_it_is_ok_when_an_upload_would_be(service: Service) -> None:
    status, body = _health(service)
    assert status == 200
    assert list(body) == ["status", "db", "storage_writable", "time"]
    assert (body["status"], body["db"], body["storage_writable"]) == ("ok", True, True)
    assert str(body["time"]).endswith("Z")
    told = datetime.fromisoformat(str(body["time"]))
    assert abs(datetime.now(UTC) - told) < timedelta(seconds=5)
    assert not service.temporary_files()


def test_it_notices_that_the_storage_cannot_be_written(start_service) -> None:
    service = start_service()
    service.storage.rename(service.storage.with_name("unmounted"))
    os.kill(service.workers()[0], signal.SIGKILL)  # nor does a new worker make the folder
    eventually(lambda: service.log_path.read_text().count("Worker ready") == 3)
    assert not service.storage.exists()
    status, body = _health(service)
    assert (status, body["status"], body["storage_writable"]) == (503, "degraded", False)
    assert body["db"] is True
    assert any(line["message"].startswith("storage_unavailable: ") for line in service.log())
    assert requests.get(f"{service.url}/health/live").status_code == 200


def test_a_storage_that_cannot_be_made_does_not_stop_the_start(
    start_service, tmp_path: Path
) -> None:
    file = tmp_path / "a-file"
    file.touch()
    service = start_service(AUDIO_STORAGE_DIR=str(file / "audio"))
    assert _health(service)[1]["storage_writable"] is False
    assert any("starting without storage" in line["message"] for line in service.log())


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    """A server that neither answers nor hangs up."""
    pids = [pid, *descendants_of(pid)]
    for each in pids:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in pids:
            os.kill(each, signal.SIGCONT)


def test_a_hanging_database_is_told_within_three_seconds(start_service, tmp_path: Path) -> None:
    with LocalPostgres(tmp_path / "pg") as postgres:
        flask_ingest(postgres.url(), "migrate")
        service = start_service(postgres.url())
        recorder = service.recorder()
        assert service.upload(recorder, b"before").status_code == 200
        with _frozen(postgres.process.pid):
            for _ in range(3):
                started = time.monotonic()
                status, body = _health(service)
                assert time.monotonic() - started < 3
                assert (status, body["status"], body["db"]) == (503, "degraded", False)
                assert requests.get(f"{service.url}/health/live").status_code == 200
            started = time.monotonic()
            assert_problem(service.upload(recorder, b"during"), 503, "database_unavailable")
            assert time.monotonic() - started < 5
        assert eventually(lambda: _health(service)[0] == 200)
        assert service.upload(recorder, b"during").status_code == 200


def test_it_starts_without_a_database_and_recovers_alone(start_service, tmp_path: Path) -> None:
    postgres = LocalPostgres(tmp_path / "pg")
    postgres.start()
    flask_ingest(postgres.url(), "migrate")
    postgres.stop()
    service = start_service(postgres.url())
    assert any("starting without a database" in line["message"] for line in service.log())
    assert _health(service)[1]["db"] is False
    unknown = {"Authorization": "Bearer some-token-or-other"}
    response = requests.post(f"{service.url}/api/v1/chunks", headers=unknown)
    problem = assert_problem(response, 503, "database_unavailable")
    assert problem["retryable"] is True
    with postgres:
        eventually(lambda: _health(service)[0] == 200)
        recorder = service.recorder()
        assert service.upload(recorder).status_code == 200
        postgres.stop()
        assert_problem(service.upload(recorder, b"2"), 503, "database_unavailable")
        assert len(service.files(recorder)) == 1
        postgres.start()
        eventually(lambda: service.upload(recorder, b"2").status_code == 200)


def test_a_terminated_connection_costs_no_upload(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    for number in range(3):
        assert service.upload(recorder, b"%d" % number).status_code == 200
        service.end_its_connections()
    assert len(service.rows(recorder)) == 3


def test_a_read_only_database_is_unavailable(start_service) -> None:
    service = start_service()
    recorder = service.recorder()
    with service.connect() as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    service.end_its_connections()
    assert_problem(service.upload(recorder), 503, "database_unavailable")
