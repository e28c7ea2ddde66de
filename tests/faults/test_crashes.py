"""kill -9 at every step of an upload; then the same upload again: one row, one file, 200."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
import requests
from support.ledger import differing_hours
from support.processes import eventually
from support.recorder import SPEECH, Recorder
from support.service import Service

from ingest_api.failpoints import Failpoint

SOAKED = pytest.param(20, marks=pytest.mark.soak)
UPLOAD = [step for step in Failpoint if step is not Failpoint.LOADED]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory, new_database: Callable[..., str]) -> Iterator[Service]:
    """A service whose server processes die on demand."""
    folder = tmp_path_factory.mktemp("mortal")
    service = Service(
        folder,
        new_database(),
        CRASH_AT=str(folder / "crash-at"),
        GUNICORN_CMD_ARGS="--worker-class=support.crashing_worker.CrashingWorker",
        PYTHONPATH=str(Path(__file__).parents[1]),
    ).start()
    yield service
    assert service.stop() == 0


def _crash_at(
    service: Service, step: Failpoint, recorder: Recorder, data: bytes, **fields: str
) -> None:
    order = service.folder / "crash-at"
    order.write_text(step)
    with pytest.raises(requests.ConnectionError):
        service.upload(recorder, data, **fields)
    assert not order.exists()


def _assert_stored_once(service: Service, recorder: Recorder, data: bytes) -> None:
    [row] = service.rows(recorder)
    [file] = service.files(recorder)
    assert file == service.storage / row["file_path"]
    assert file.read_bytes() == data
    assert file.stat().st_nlink <= 2  # a temporary name may be left
    assert differing_hours(service.database_url) == []


@pytest.mark.parametrize("times", [2, SOAKED])
@pytest.mark.parametrize("step", UPLOAD)
def test_an_upload_that_died_is_completed_by_the_next_try(
    mortal: Service, step: Failpoint, times: int
) -> None:
    for number in range(times):
        recorder = mortal.recorder()  # in a place of its own, so that folders are made
        data = SPEECH + b"%d" % number
        declared = {"sha256": sha256(data).hexdigest()} if number % 2 else {}
        _crash_at(mortal, step, recorder, data, **declared)
        for row in mortal.rows(recorder):  # at no time does a row point at nothing
            assert (mortal.storage / row["file_path"]).read_bytes() == data
        again = mortal.upload(recorder, data, **declared)
        assert again.status_code == 200
        assert again.json()["duplicate"] is (step in {"committed", "cleaned", "answering"})
        _assert_stored_once(mortal, recorder, data)


def test_a_replay_that_dies_harms_nothing(mortal: Service) -> None:
    recorder = mortal.recorder()
    assert mortal.upload(recorder).status_code == 200
    for step in set(UPLOAD) - {Failpoint.FOLDER_MADE}:
        _crash_at(mortal, step, recorder, SPEECH)
        _assert_stored_once(mortal, recorder, SPEECH)
    for step in (Failpoint.OPENED, Failpoint.CLEANED, Failpoint.ANSWERING):  # without its bytes
        _crash_at(mortal, step, recorder, SPEECH, sha256=sha256(SPEECH).hexdigest())
        _assert_stored_once(mortal, recorder, SPEECH)
    assert mortal.upload(recorder).json()["duplicate"] is True


@pytest.fixture
def slow_commit(mortal: Service) -> Iterator[None]:
    """Each insert of a chunk is done at once and takes a moment to commit."""
    with mortal.connect() as connection:
        connection.execute(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END'"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER pause AFTER INSERT ON audio_chunks DEFERRABLE "
            "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pause()"
        )
        yield
        connection.execute("DROP FUNCTION pause() CASCADE")


def _is_committing(connection: psycopg.Connection) -> bool:
    query = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'
            AND query LIKE '-- Record a chunk%'
    """
    return connection.execute(query).rowcount > 0


@pytest.mark.parametrize("times", [2, SOAKED])
@pytest.mark.usefixtures("slow_commit")
def test_a_server_process_dies_between_its_insert_and_the_commit(
    mortal: Service, times: int
) -> None:
    with mortal.connect() as connection, ThreadPoolExecutor() as pool:
        for _ in range(times):
            recorder = mortal.recorder()
            upload = pool.submit(mortal.upload, recorder)
            eventually(lambda: _is_committing(connection))
            for pid in mortal.workers():
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(requests.ConnectionError):
                upload.result()
            assert mortal.upload(recorder).status_code == 200
            _assert_stored_once(mortal, recorder, SPEECH)
