"""PostgreSQL stops, hangs, is locked, full or read-only: 503 in time, nothing acknowledged that
was not committed, and the service recovers by itself."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
import requests
from lab.postgres import LocalPostgres
from support.commands import flask_ingest
from support.problems import CHUNKS, assert_outage, assert_problem, assert_recovery
from support.processes import descendants_of, eventually
from support.recorder import Recorder
from support.service import Service


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faulty")


@pytest.fixture(scope="module")
def server(data_dir: Path) -> Iterator[LocalPostgres]:
    """A PostgreSQL to be maltreated."""
    with LocalPostgres(data_dir, settings={"max_connections": "20"}) as running:
        assert flask_ingest(running.url(), "migrate").returncode == 0
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, server: LocalPostgres) -> Iterator[Service]:
    """One that has used its database before the fault, and is never restarted."""
    running = Service(tmp_path_factory.mktemp("service"), server.url(), WORKERS="1").start()
    assert running.upload(running.recorder()).status_code == 200
    yield running
    assert running.stop() == 0


def _assert_unavailable(service: Service, recorder: Recorder, cause: str) -> None:
    assert_outage(service, recorder, 503, "database_unavailable", broken="db", cause=cause)


@contextmanager
def _stopped(server: LocalPostgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def _killed(server: LocalPostgres) -> Iterator[None]:
    server.process.kill()
    server.process.wait()
    with _stopped(server):
        yield


@pytest.mark.parametrize("away", [_stopped, _killed])
def test_a_server_that_is_away(
    server: LocalPostgres,
    service: Service,
    recorder: Recorder,
    away: Callable[[LocalPostgres], AbstractContextManager[None]],
) -> None:
    with away(server):
        _assert_unavailable(service, recorder, "Is the server running")
        assert service.files(recorder) == []
    assert_recovery(service, recorder)
    with away(server):
        pass
    # A restart between two uploads costs none, though all connections of the pool are dead.
    assert service.upload(recorder, CHUNKS[0]).status_code == 200
    assert_recovery(service, recorder)


def test_what_was_acknowledged_outlives_a_killed_server(
    server: LocalPostgres, service: Service, recorder: Recorder
) -> None:
    def upload_until_refused(name: str) -> tuple[list[requests.Response], requests.Response]:
        accepted = []
        while (answer := service.upload(recorder, b"%d %s" % (len(accepted), name))).ok:
            accepted.append(answer)
        return accepted, answer

    with ThreadPoolExecutor(4) as threads:
        uploads = [threads.submit(upload_until_refused, name) for name in (b"a", b"b", b"c", b"d")]
        eventually(lambda: len(service.rows(recorder)) > 20)
        with _killed(server):
            wait(uploads)
    rows = {str(row["chunk_id"]) for row in service.rows(recorder)}
    for accepted, refused in (upload.result() for upload in uploads):
        assert {answer.json()["chunk_id"] for answer in accepted} <= rows
        assert_problem(refused, 503, "database_unavailable")


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    """A server that neither answers nor hangs up."""
    os.kill(pid, signal.SIGSTOP)  # first, so that it starts no other
    pids = [pid, *descendants_of(pid)]
    for each in pids:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in reversed(pids):  # it last, so that it has buried none of them
            os.kill(each, signal.SIGCONT)


def test_a_server_that_hangs(server: LocalPostgres, service: Service, recorder: Recorder) -> None:
    assert service.upload(recorder, CHUNKS[0]).status_code == 200
    with _frozen(server.process.pid):
        _assert_unavailable(service, recorder, "wait timeout expired")
        _assert_unavailable(service, recorder, "connection")  # which it now has none of
    assert_recovery(service, recorder)


@pytest.mark.parametrize("table", ["devices", "audio_chunks"])
def test_a_table_that_somebody_has_locked(service: Service, recorder: Recorder, table: str) -> None:
    with service.connect() as other, other.transaction():
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        _assert_unavailable(service, recorder, "timeout")
        assert bool(service.files(recorder)) is (table == "audio_chunks")  # without rows: harmless
        # Nothing is left that would run later on, unknown to anybody.
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        eventually(lambda: other.execute(waiting).fetchone()[0] == 0)
    assert service.rows(recorder) == []
    assert_recovery(service, recorder)


@contextmanager
def _held(service: Service, recorder: Recorder, statement: str) -> Iterator[None]:
    """Somebody has the device's row in a transaction that stays open."""
    with service.connect() as other, other.transaction(force_rollback=True):
        other.execute(statement, [recorder.device.device_id])
        yield


SEEN = "UPDATE devices SET last_seen_at = now() WHERE device_id = %s"
DISABLED = "UPDATE devices SET is_enabled = true WHERE device_id = %s"
TAKEN = "SELECT FROM devices WHERE device_id = %s FOR UPDATE"
ROTATED = "UPDATE devices SET token_hash = token_hash || '0' WHERE device_id = %s"
SIXTEEN = [b"%d of sixteen" % number for number in range(16)]


@pytest.mark.parametrize(
    ("statement", "status"), [(SEEN, 200), (DISABLED, 200), (TAKEN, 503), (ROTATED, 503)]
)
def test_a_device_whose_row_is_held_holds_up_no_other(
    service: Service, recorder: Recorder, statement: str, status: int
) -> None:
    other = service.recorder()
    with ThreadPoolExecutor(16) as threads, _held(service, recorder, statement):
        uploads = [threads.submit(service.upload, recorder, data) for data in SIXTEEN]
        seconds = []
        while len(seconds) < 20 or not all(upload.done() for upload in uploads):
            answer = service.upload(other, b"%d of the other" % len(seconds))
            assert answer.status_code == 200
            seconds.append(answer.elapsed.total_seconds())
        assert service.health()[0] == 200
        assert {upload.result().status_code for upload in uploads} == {status}
    assert max(seconds) < 1
    assert {answer.status_code for answer in service.upload_at_once(recorder, SIXTEEN)} == {200}


@contextmanager
def _lost_standby(service: Service) -> Iterator[None]:
    """No commit reaches the synchronous standby."""
    with service.connect() as administrator:
        try:
            administrator.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            administrator.execute("SELECT pg_reload_conf()")
            shown = "SHOW synchronous_standby_names"
            eventually(lambda: administrator.execute(shown).fetchone() == ("nobody",))
            yield
        finally:
            administrator.execute("ALTER SYSTEM RESET synchronous_standby_names")
            administrator.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("is_held", [False, True])
def test_a_replay_waits_for_the_standby_also_while_its_device_is_held(
    service: Service, recorder: Recorder, is_held: bool
) -> None:
    assert service.upload(recorder, CHUNKS[0]).status_code == 200
    with ExitStack() as stack:
        if is_held:  # before the standby is lost, for the sake of its own commit
            stack.enter_context(_held(service, recorder, SEEN))
        with _lost_standby(service):
            assert_problem(service.upload(recorder, CHUNKS[0]), 503, "database_unavailable")
            for answer in _ask_first(service, recorder, CHUNKS[0]):
                assert_problem(answer, 503, "database_unavailable")
            status, body = service.health()
            assert (status, body["db"]) == (503, False)
        eventually(lambda: service.upload(recorder, CHUNKS[0]).status_code == 200)
        assert [answer.status_code for answer in _ask_first(service, recorder, CHUNKS[0])] == [
            200
        ] * 2
    assert_recovery(service, recorder)


def _ask_first(service: Service, recorder: Recorder, data: bytes) -> Iterator[requests.Response]:
    """Try to do without sending a chunk's bytes."""
    digest = sha256(data).hexdigest()
    yield service.upload(recorder, data, sha256=digest)
    body = {"chunks": [{"start_ts": recorder.clock.isoformat(), "sha256": digest}]}
    url = f"{service.url}/api/v1/chunks/known"
    yield requests.post(url, json=body, headers=recorder.headers, timeout=10)


def test_a_terminated_connection_costs_no_upload(service: Service, recorder: Recorder) -> None:
    for number in range(3):
        assert service.upload(recorder, b"%d" % number).status_code == 200
        service.end_its_connections()
    assert len(service.rows(recorder)) == 3


def test_a_connection_that_is_terminated_in_use(service: Service, recorder: Recorder) -> None:
    blocked = "FROM pg_locks WHERE NOT granted"
    with ThreadPoolExecutor(1) as thread, service.connect() as other, other.transaction():
        other.execute("LOCK TABLE audio_chunks IN ACCESS EXCLUSIVE MODE")
        upload = thread.submit(service.upload, recorder, CHUNKS[0])
        eventually(lambda: other.execute(f"SELECT pid {blocked}").fetchone())
        cut = time.monotonic()
        other.execute(f"SELECT pg_terminate_backend(pid) {blocked}")
        assert_problem(upload.result(), 503, "database_unavailable")
        assert time.monotonic() - cut < 2  # at once: it does not wait in vain
    assert "database_unavailable: terminating connection" in service.log_path.read_text()
    assert service.rows(recorder) == []
    assert_recovery(service, recorder)


def _take_all(server: LocalPostgres, taken: ExitStack) -> None:
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        while True:
            taken.enter_context(psycopg.connect(server.url()))


def test_a_server_that_has_no_connection_left(
    server: LocalPostgres, service: Service, recorder: Recorder
) -> None:
    assert service.upload(recorder, CHUNKS[0]).status_code == 200
    with service.connect() as administrator, ExitStack() as taken:
        _take_all(server, taken)
        answers = service.upload_at_once(recorder, CHUNKS)  # on the connections that it has
        assert {answer.status_code for answer in answers} == {200}
        administrator.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'ingest_api'"
        )
        _take_all(server, taken)
        _assert_unavailable(service, recorder, "too many clients")
    assert_recovery(service, recorder)


def test_a_role_that_may_not_connect_when_the_service_starts(
    server: LocalPostgres, service: Service, recorder: Recorder, start_service
) -> None:
    with service.connect() as administrator:
        administrator.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 0")
        administrator.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO limited")
        limited = start_service(f"{server.url()}&user=limited", WORKERS="1")
        _assert_unavailable(limited, recorder, 'too many connections for role "limited"')
        administrator.execute("ALTER ROLE limited CONNECTION LIMIT 10")
    assert_recovery(limited, recorder)


def test_it_starts_without_a_database_and_recovers_alone(
    server: LocalPostgres, service: Service, recorder: Recorder, start_service
) -> None:
    with _stopped(server):
        early = start_service(server.url(), WORKERS="1")
        assert any("starting without a database" in line["message"] for line in early.log())
        unknown = {"Authorization": "Bearer some-token-or-other"}
        response = requests.post(f"{early.url}/api/v1/chunks", headers=unknown)
        problem = assert_problem(response, 503, "database_unavailable")
        assert problem["retryable"] is True
        _assert_unavailable(early, recorder, "Is the server running")
    assert_recovery(early, recorder)


@contextmanager
def _read_only_database(server: LocalPostgres, data_dir: Path) -> Iterator[None]:
    """For sessions that begin now."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("ALTER DATABASE ingest SET default_transaction_read_only = on")
        try:
            end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            connection.execute(f"{end} WHERE application_name = 'ingest_api'")
            yield
        finally:
            connection.execute("ALTER DATABASE ingest RESET default_transaction_read_only")


@contextmanager
def _read_only_server(server: LocalPostgres, data_dir: Path) -> Iterator[None]:
    """For the sessions that there are, too."""
    writable = "-c default_transaction_read_only=off"
    with psycopg.connect(server.url(), autocommit=True, options=writable) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


@contextmanager
def _standby(server: LocalPostgres, data_dir: Path) -> Iterator[None]:
    """Until it is promoted."""
    with _stopped(server):
        (data_dir / "postgres" / "standby.signal").touch()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        try:
            yield
        finally:
            connection.execute("SELECT pg_promote()")


@pytest.mark.parametrize("read_only", [_read_only_database, _read_only_server, _standby])
def test_a_database_that_can_only_be_read(
    server: LocalPostgres,
    service: Service,
    recorder: Recorder,
    data_dir: Path,
    read_only: Callable[[LocalPostgres, Path], AbstractContextManager[None]],
) -> None:
    assert service.upload(recorder, CHUNKS[0]).status_code == 200
    with read_only(server, data_dir):
        _assert_unavailable(service, recorder, "read-only")
        assert len(service.rows(recorder)) == 1
    assert_recovery(service, recorder)


@contextmanager
def _no_space(service: Service, data_dir: Path) -> Iterator[None]:
    """For rows of `audio_chunks`: its file becomes one to which the kernel says ENOSPC."""
    with service.connect() as connection:
        connection.execute("TRUNCATE audio_chunks")
        row = connection.execute("SELECT pg_relation_filepath('audio_chunks')").fetchone()
    file = data_dir / "postgres" / row[0]
    aside = file.rename(file.with_suffix(".aside"))
    file.symlink_to("/dev/full")
    service.end_its_connections()  # which have the file open
    try:
        yield
    finally:
        aside.replace(file)


def test_a_database_that_is_too_slow(service: Service, recorder: Recorder) -> None:
    """It answers, but not in time: an insert takes three seconds."""
    with service.connect() as connection:
        connection.execute(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(3); RETURN NEW; END';"
            "CREATE TRIGGER pause BEFORE INSERT ON audio_chunks"
            " FOR EACH ROW EXECUTE FUNCTION pause()"
        )
        for answer in service.upload_at_once(recorder, CHUNKS):
            assert_problem(answer, 503, "database_unavailable")
        assert service.rows(recorder) == []
        connection.execute("DROP FUNCTION pause() CASCADE")
    assert_recovery(service, recorder)


def test_a_database_whose_disk_is_full(
    service: Service, recorder: Recorder, data_dir: Path
) -> None:
    with _no_space(service, data_dir):
        for answer in service.upload_at_once(recorder, CHUNKS):
            assert_problem(answer, 503, "database_unavailable")
        assert service.rows(recorder) == []
        assert not service.temporary_files()
    assert "database_unavailable: could not extend file" in service.log_path.read_text()
    assert_recovery(service, recorder)
