"""A pooler between the service and PostgreSQL: with sessions of its own it works, without it is
refused with a sentence, before anything is done."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from support.commands import flask_ingest
from support.pooler import pooled
from support.service import Service

PHRASE = "DATABASE_URL leads to a pooler that gives each transaction another session"
ADVICE = "Set pool_mode = session for this database"


@pytest.fixture(scope="module")
def direct_url(new_database: Callable[..., str]) -> str:
    return new_database()


@pytest.fixture(scope="module", params=["transaction", "statement"])
def sharing_url(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    direct_url: str,
) -> Iterator[str]:
    with pooled(tmp_path_factory.mktemp("pooler") / "run", direct_url, request.param) as url:
        yield url


@pytest.mark.parametrize("command", ["migrate", "list-devices", "add-device", "fsck"])
def test_a_command_refuses_a_pooler_that_shares_sessions(
    sharing_url: str, direct_url: str, tmp_path: Path, command: str
) -> None:
    result = flask_ingest(sharing_url, command, AUDIO_STORAGE_DIR=str(tmp_path))
    assert result.returncode in {1, 2}
    assert PHRASE in result.stderr
    assert ADVICE in result.stderr
    with psycopg.connect(direct_url) as connection:
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert connection.execute(locks).fetchone() == (0,)


def test_the_doctor_finds_it(sharing_url: str, tmp_path: Path) -> None:
    result = flask_ingest(sharing_url, "doctor", AUDIO_STORAGE_DIR=str(tmp_path), cwd=tmp_path)
    assert result.returncode == 1
    assert PHRASE in result.stdout


def test_the_service_does_not_start(sharing_url: str, tmp_path: Path) -> None:
    service = Service(tmp_path / "refused", sharing_url).start(wait=False)
    assert service.process.wait(timeout=30) != 0
    assert PHRASE in service.log_path.read_text()


@pytest.mark.slow
def test_a_pooler_that_shares_sessions_and_comes_later_is_refused(
    direct_url: str, tmp_path: Path
) -> None:
    """The service had started without a database."""
    with pooled(tmp_path / "port", direct_url, "transaction") as url:
        pass
    service = Service(tmp_path / "early", url, WORKERS="1").start()
    try:
        port = int(url.rpartition(":")[2].partition("/")[0])
        with pooled(tmp_path / "late", direct_url, "transaction", port=port):
            assert service.health()[0] == 503
            assert PHRASE in service.log_path.read_text()
    finally:
        service.stop()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 10])
def test_a_pooler_with_a_session_for_each_client_works(
    direct_url: str, tmp_path: Path, size: int
) -> None:
    """Also the smallest, which has no second session to lend."""
    with pooled(tmp_path / "run", direct_url, "session", size=size) as url:
        result = flask_ingest(url, "list-devices")
        assert result.returncode == 0, result.stderr
        if size == 1:
            return
        service = Service(tmp_path / "service", url, WORKERS="1").start()
        service.database_url = direct_url
        recorder = service.recorder()
        answers = service.upload_at_once(recorder, [b"%d" % number for number in range(12)])
        assert {answer.status_code for answer in answers} == {200}
        assert service.stop() == 0
