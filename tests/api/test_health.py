"""/health tells the truth. (In time, while something fails: test_database_faults.py.)"""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import requests
from support.processes import eventually
from support.service import Service


def test_it_is_ok_when_an_upload_would_be(service: Service) -> None:
    status, body = service.health()
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
    status, body = service.health()
    assert (status, body["status"], body["storage_writable"]) == (503, "degraded", False)
    assert body["db"] is True
    assert any(line["message"].startswith("storage_unavailable: ") for line in service.log())
    assert requests.get(f"{service.url}/health/live").status_code == 200


@pytest.mark.parametrize("name", [".incoming", "audio"])
def test_it_notices_that_no_file_can_get_its_final_name(emptied: Service, name: str) -> None:
    """Because the two folders are on different file systems."""
    recorder = emptied.recorder()
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:
        (emptied.storage / name).symlink_to(elsewhere)
        try:
            assert emptied.upload(recorder).status_code == 503
            status, body = emptied.health()
            assert (status, body["db"], body["storage_writable"]) == (503, True, False)
        finally:
            (emptied.storage / name).unlink()
        assert not any(path.is_file() for path in Path(elsewhere).rglob("*"))
    assert emptied.health()[0] == 200
    assert emptied.upload(recorder).status_code == 200


def test_it_takes_a_transaction_id_as_an_upload_does(emptied: Service) -> None:
    """PostgreSQL refuses new ones before they run out, and only reads are left."""
    with emptied.connect() as connection:
        newest = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        before = connection.execute(newest).fetchone()[0]
        assert emptied.health()[0] == 200
        assert connection.execute(newest).fetchone()[0] == before + 1


def test_it_notices_that_the_database_refuses_uploads(start_service) -> None:
    service = start_service()
    with service.connect() as connection:
        connection.execute("ALTER TABLE audio_chunks RENAME TO mislaid")
        status, body = service.health()
        assert (status, body["db"], body["storage_writable"]) == (503, False, True)
        assert any("the database refuses uploads: " in line["message"] for line in service.log())
        connection.execute("ALTER TABLE mislaid RENAME TO audio_chunks")
    assert service.health()[0] == 200


@pytest.mark.slow
def test_a_storage_that_cannot_be_made_does_not_stop_the_start(
    start_service, tmp_path: Path
) -> None:
    file = tmp_path / "a-file"
    file.touch()
    service = start_service(AUDIO_STORAGE_DIR=str(file / "audio"))
    assert service.health()[1]["storage_writable"] is False
    assert any("starting without storage" in line["message"] for line in service.log())
