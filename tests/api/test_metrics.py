"""/metrics: who may read it, and that its figures are those of the ledger and of the answers."""

import os
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from support.commands import flask_ingest
from support.problems import assert_problem
from support.processes import eventually
from support.service import Service

TOKEN = "metrics-token-of-the-tests"
BEYOND = {"X-Forwarded-For": "192.0.2.1"}  # as through a proxy


def _scrape(service: Service) -> dict[str, float]:
    answer = requests.get(f"{service.url}/metrics", timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name
        + "".join(f"{{{key}={value}}}" for key, value in sorted(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_it_is_for_this_machine_and_for_those_with_the_token(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(METRICS_TOKEN=TOKEN)
    url = f"{service.url}/metrics"
    assert requests.get(url).status_code == 200
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert requests.get(url, headers=BEYOND | bearer).status_code == 200
    wrong = {"Authorization": f"Bearer {TOKEN}x"}
    assert_problem(requests.get(url, headers=BEYOND | wrong), 401, "invalid_metrics_token")
    assert_problem(requests.get(url, headers=BEYOND), 401, "missing_token")


def test_without_a_token_nobody_else_may_read_it(service: Service) -> None:
    bearer = {"Authorization": "Bearer "}
    for headers in (BEYOND, BEYOND | bearer):
        answer = requests.get(f"{service.url}/metrics", headers=headers)
        assert_problem(answer, 401, "invalid_metrics_token")


def test_it_tells_what_the_ledger_holds(emptied: Service) -> None:
    recorder, silent, _ = (emptied.recorder() for _ in range(3))
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    times = {"start_ts": (now - timedelta(minutes=41)).isoformat(), "end_ts": now.isoformat()}
    emptied.upload(recorder, b"recent", **times)
    emptied.upload(silent)
    with emptied.connect() as connection:
        connection.execute(
            "UPDATE devices SET last_seen_at = now() - interval '1 h' WHERE device_id = %s",
            [silent.device.device_id],
        )
        connection.execute("UPDATE audio_chunks SET created_at = created_at - interval '50 s'")
    settings = {"AUDIO_STORAGE_DIR": str(emptied.storage)}
    assert flask_ingest(emptied.database_url, "fsck", **settings).returncode == 0
    found = _scrape(emptied)
    assert found["ingest_database_up"] == 1
    assert found["ingest_devices{state=recording}"] == 1
    assert found["ingest_devices{state=silent}"] == 1
    assert found["ingest_devices{state=never}"] == 1
    assert found["ingest_devices{state=refused}"] == 0
    assert found["ingest_chunks{status=QUEUED}"] == 2
    assert found["ingest_chunks{status=DONE}"] == 0
    assert 50 <= found["ingest_oldest_waiting_seconds"] < 100
    assert found["ingest_expired_leases"] == 0
    assert found["ingest_coverage_ratio"] == pytest.approx(31 / 60 / 2, abs=0.01)
    assert found["ingest_storage_free_bytes"] > 1e6
    assert 0 <= found["ingest_fsck_age_seconds"] < 60
    assert "ingest_backup_age_seconds" not in found  # there was none


def test_it_counts_every_answer_whichever_process_gave_it(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(WORKERS="3", MAX_UPLOAD_SIZE_BYTES="1000")
    recorder = service.recorder()
    assert "ingest_uploads_total{code=}{status=200}" not in _scrape(service)
    chunks = [b"chunk %d" % number for number in range(20)]
    for _ in range(2):
        service.upload_at_once(recorder, chunks)
    service.upload(recorder, b"x" * 1001)
    service.upload(recorder, headers={"Authorization": "Bearer wrong"})
    found = _scrape(service)
    assert found["ingest_uploads_total{code=}{status=200}"] == 40
    assert found["ingest_uploads_total{code=file_too_large}{status=413}"] == 1
    assert found["ingest_uploads_total{code=invalid_token}{status=401}"] == 1
    assert found["ingest_replays_total"] == 20
    for stage in ("receive", "sync", "database"):
        assert found[f"ingest_upload_stage_seconds_count{{stage={stage}}}"] == 40
        assert found[f"ingest_upload_stage_seconds_bucket{{le=+Inf}}{{stage={stage}}}"] == 40
    assert found["ingest_upload_bytes_total"] == sum(
        line["bytes"] for line in service.log() if line.get("path") == "/api/v1/chunks"
    )
    assert 0 <= found["ingest_threads_in_use"] <= 21  # of a moment ago
    eventually(lambda: _scrape(service)["ingest_threads_in_use"] <= 1)


def test_counters_outlive_their_processes_and_files_stay_few(
    start_service: Callable[..., Service],
) -> None:
    """Processes are killed and reloaded; the slots of the ended are used again."""
    service = start_service(WORKERS="2")
    recorder = service.recorder()
    [folder] = {Path(name).parent for name in _metric_files(service)}
    for number in range(1, 7):
        assert service.upload(recorder, b"%d" % number).status_code == 200
        before = service.workers()
        if number % 2:
            for pid in before:
                os.kill(pid, signal.SIGKILL)
        else:
            os.kill(service.running.pid, signal.SIGHUP)
        eventually(lambda before=before: not set(before) & set(service.workers()))
        eventually(lambda: len(service.workers()) == 2)
        eventually(lambda: service.health()[0] == 200)
        assert _scrape(service)["ingest_uploads_total{code=}{status=200}"] == number
    assert len(list(folder.glob("counter_*.db"))) <= 4
    assert service.stop() == 0
    assert not folder.exists()


def test_what_a_killed_master_leaves_is_removed_by_the_next(
    start_service: Callable[..., Service],
) -> None:
    killed, other = start_service(WORKERS="1"), start_service(WORKERS="1")
    [left], [used] = ({Path(name).parent for name in _metric_files(it)} for it in (killed, other))
    workers = killed.workers()
    killed.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert left.exists()
    start_service(WORKERS="1")
    assert not left.exists()
    assert used.exists()


def test_without_the_database_it_tells_the_rest(start_service: Callable[..., Service]) -> None:
    service = start_service()
    service.upload(service.recorder())
    with service.connect() as connection:
        connection.execute("ALTER TABLE devices RENAME TO moved")
        found = _scrape(service)
    assert found["ingest_database_up"] == 0
    assert found["ingest_uploads_total{code=}{status=200}"] == 1
    assert not any(name.startswith("ingest_devices") for name in found)


def _metric_files(service: Service) -> list[str]:
    """The files in which its processes count."""
    maps = Path(f"/proc/{service.workers()[0]}/maps").read_text()
    return re.findall(r"\S*/ingest-metrics-\S+\.db", maps)
