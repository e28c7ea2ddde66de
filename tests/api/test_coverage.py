"""/api/v1/admin/coverage: which minutes were recorded, and why the others are missing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import requests
from support.commands import flask_ingest
from support.problems import assert_problem
from support.recorder import Recorder
from support.service import ADMIN_TOKEN, Service

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
DAY = datetime(2026, 1, 28, tzinfo=UTC)


def _at(clock: str) -> str:
    """A time of that day, as the service writes it."""
    return f"2026-01-28T{clock}Z"


@pytest.fixture
def url(service: Service) -> str:
    return f"{service.url}/api/v1/admin/coverage"


def _upload(service: Service, recorder: Recorder, *intervals: tuple[str, str], **form: Any) -> None:
    for start, end in intervals:
        times = {"start_ts": _at(start), "end_ts": _at(end)} | form
        assert service.upload(recorder, f"{start} {end}".encode(), **times).status_code == 200


def _ask(url: str, recorder: Recorder, **query: Any) -> dict[str, Any]:
    asked = {"device_id": recorder.device.device_id, "from": _at("10:00:00"), "to": _at("11:00:00")}
    answer = requests.get(url, params=asked | query, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    [covered] = answer.json()["devices"]
    return covered


def _gap(start: str, end: str, reason: str) -> dict[str, str]:
    return {"from": _at(start), "to": _at(end), "reason": reason}


def test_minutes_are_counted_by_their_middle_and_gaps_are_exact(service: Service, url: str) -> None:
    """Chunks of any length and alignment, with pauses of seconds in between, leave no false gap."""
    recorder = service.recorder()
    _upload(
        service,
        recorder,
        ("09:58:00", "10:00:45.5"),  # begins before
        ("10:00:47", "10:01:05"),
        ("10:01:05", "10:10:31"),
        ("10:20:10.25", "10:20:11"),  # covers no middle
        ("10:30:00.5", "10:59:59"),
    )
    covered = _ask(url, recorder, step="15min")
    assert covered["gaps"] == [_gap("10:10:31", "10:30:00.500000", "missing")]
    assert covered["overlaps"] == []
    assert covered["share"] == round((11 + 30) / 60, 4)
    assert [step["from"] for step in covered["steps"]] == [
        _at(f"10:{minute}:00") for minute in ("00", "15", "30", "45")
    ]
    assert [step["share"] for step in covered["steps"]] == [round(11 / 15, 4), 0, 1, 1]


def test_every_gap_has_its_reason(service: Service, url: str) -> None:
    recorder = service.recorder()
    hour = [("10:00:00", "10:10:00"), ("10:10:00", "10:20:00"), ("10:20:00", "10:25:00")]
    _upload(service, recorder, *hour, ("10:40:00", "10:50:00"))
    removed, lost, _, _ = service.rows(recorder)
    with service.connect() as connection:
        connection.execute("DELETE FROM audio_chunks WHERE chunk_id = %s", [removed["chunk_id"]])
    (service.storage / lost["file_path"]).unlink()
    fsck = {"AUDIO_STORAGE_DIR": str(service.storage)}
    flask_ingest(service.database_url, "fsck", "--repair", "--force", **fsck)
    covered = _ask(url, recorder)
    assert covered["share"] == round(35 / 60, 4)  # what was recorded, though it is gone
    assert covered["gaps"] == [
        _gap("10:00:00", "10:10:00", "removed"),
        _gap("10:10:00", "10:20:00", "file_missing"),
        _gap("10:25:00", "10:40:00", "missing"),
        _gap("10:50:00", "11:00:00", "not_yet"),
    ]
    flask_ingest(service.database_url, "disable-device", str(recorder.device.device_id))
    assert _ask(url, recorder)["gaps"][-1] == _gap("10:50:00", "11:00:00", "missing")


def test_late_chunks_replays_and_overlaps_are_counted_once(service: Service, url: str) -> None:
    recorder = service.recorder()
    late = ("10:00:00", "10:30:00")
    _upload(service, recorder, ("10:20:00", "10:45:00"), late, late, ("10:40:00", "10:41:00"))
    _upload(service, recorder, ("10:44:59.5", "11:00:00"))  # half a second is no overlap
    covered = _ask(url, recorder)
    assert (covered["share"], covered["gaps"]) == (1, [])
    assert covered["overlaps"] == [
        {"from": _at("10:20:00"), "to": _at("10:30:00")},
        {"from": _at("10:40:00"), "to": _at("10:41:00")},
    ]
    with service.connect() as connection:
        found = connection.execute(
            "SELECT hour, minutes, chunks, bytes FROM recorded_hours WHERE device_id = %s",
            [recorder.device.device_id],
        ).fetchall()
    sizes = sum(row["file_size_bytes"] for row in service.rows(recorder))
    assert found == [(DAY + timedelta(hours=10), 2**60 - 1, 4, sizes)]


def test_a_clock_that_was_set_fills_no_years(service: Service, url: str) -> None:
    recorder = service.recorder()
    day = {"start_ts": "2026-01-28T10:59:00Z", "end_ts": "2026-01-29T10:59:00Z"}
    assert service.upload(recorder, b"a day", **day).status_code == 200
    jump = {"start_ts": "1970-01-01T00:00:10Z", "end_ts": "2026-01-28T10:30:00Z"}
    assert service.upload(recorder, b"a jump", **jump).status_code == 200
    far = {"start_ts": "9999-12-31T23:00:00Z", "end_ts": "9999-12-31T23:59:59Z"}
    assert service.upload(recorder, b"far", **far).status_code == 200
    with service.connect() as connection:
        rows = connection.execute(
            "SELECT extract(year FROM hour), count(*), sum(bit_count(minutes::bit(64)))::int,"
            " sum(chunks)::int FROM recorded_hours WHERE device_id = %s GROUP BY 1 ORDER BY 1",
            [recorder.device.device_id],
        ).fetchall()
    assert [tuple(map(int, row)) for row in rows] == [
        (1970, 1, 0, 1),
        (2026, 25, 1440, 1),
        (9999, 1, 60, 1),
    ]
    assert _ask(url, recorder)["share"] == round(1 / 60, 4)


def test_a_point_has_all_its_devices_and_its_own_days(service: Service, url: str) -> None:
    one = service.recorder()
    other = service.recorder(point_id=one.device.point_id)
    point = {"point_id": one.device.point_id, "device_id": None}
    name = requests.put(
        url.replace("coverage", f"points/{one.device.point_id}"),
        json={"name": "Köln 4", "time_zone": "Europe/Berlin"},
        headers=ADMIN,
    )
    assert name.status_code == 200
    # The day on which clocks go back, between two whole days.
    asked = {"from": "2025-10-24T22:00:00Z", "to": "2025-10-27T23:00:00Z", "step": "1d"} | point
    answer = requests.get(url, params=asked, headers=ADMIN).json()
    assert answer["time_zone"] == "Europe/Berlin"
    devices = {covered["device_id"]: covered for covered in answer["devices"]}
    assert set(devices) == {str(recorder.device.device_id) for recorder in (one, other)}
    for covered in devices.values():
        assert covered["point_name"] == "Köln 4"
        assert [step["from"] for step in covered["steps"]] == [
            *("2025-10-24T22:00:00Z", "2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z")
        ]
    registers = asked | {"point_id": None, "register_id": other.device.register_id}
    [covered] = requests.get(url, params=registers, headers=ADMIN).json()["devices"]
    assert covered == devices[str(other.device.device_id)]


def test_what_is_not_over_is_not_missing(service: Service, url: str) -> None:
    recorder = service.recorder()
    now = datetime.now(UTC)
    asked = {"from": (now - timedelta(hours=1)).isoformat(), "to": (now + 3 * timedelta(days=1))}
    covered = _ask(url, recorder, **asked, step="1d")
    assert covered["share"] == 0
    [gap] = covered["gaps"]
    assert gap["reason"] == "not_yet"
    assert datetime.fromisoformat(gap["to"]) - now < timedelta(minutes=1)
    assert covered["steps"][-1]["share"] is None
    tomorrow = {"from": (now + timedelta(days=1)).isoformat(), "to": (now + timedelta(days=2))}
    covered = _ask(url, recorder, **tomorrow)
    assert (covered["share"], covered["gaps"], len(covered["steps"])) == (None, [], 24)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": None}, "from"),
        ({"to": None}, "to"),
        ({"from": _at("11:00:00"), "to": _at("10:00:00")}, "from"),
        ({"from": _at("10:00:00"), "to": _at("10:00:00")}, "from"),
        ({"from": "1900-01-01T00:00:00Z"}, "from"),
        ({"to": "9999-12-31T23:59:59Z"}, "to"),
        ({"step": "0min"}, "step"),
        ({"step": "25h"}, "step"),
        ({"step": "30s"}, "step"),
        ({"step": "1"}, "step"),
        ({"device_id": None}, "device_id"),
        ({"point_id": str(uuid4())}, "device_id"),
        ({"zone": "Mars/Base"}, "zone"),
    ],
)
def test_it_refuses_a_malformed_question_by_field(
    url: str, query: dict[str, Any], field: str
) -> None:
    asked = {"device_id": uuid4(), "from": _at("10:00:00"), "to": _at("11:00:00")}
    answer = requests.get(url, params=asked | query, headers=ADMIN)
    assert field in assert_problem(answer, 422, "validation_error")["errors"]


def test_it_refuses_too_much_at_once(service: Service, url: str) -> None:
    recorder = service.recorder()
    asked = {"device_id": recorder.device.device_id, "from": "2026-01-01T00:00:00Z"}
    for bounds in (
        {"from": "1970-01-01T00:00:00Z", "to": "2070-01-01T00:00:00Z", "step": "1d"},
        {"to": "2026-02-15T00:00:00Z", "step": "1min"},
    ):
        answer = requests.get(url, params=asked | bounds, headers=ADMIN)
        assert_problem(answer, 422, "coverage_too_large", "Choose a shorter time")
    unknown = {"device_id": uuid4(), "from": _at("10:00:00"), "to": _at("11:00:00")}
    assert_problem(requests.get(url, params=unknown, headers=ADMIN), 404, "device_not_found")


def test_the_rebuild_enters_what_is_there_and_keeps_what_is_gone(
    start_service: Callable[..., Service],
) -> None:
    service = start_service()
    recorder = service.recorder()
    _upload(service, recorder, ("10:00:00", "11:30:00"), ("12:00:30", "12:01:30"))
    jump = {"start_ts": "1970-01-01T00:00:10Z", "end_ts": _at("10:00:00")}
    assert service.upload(recorder, **jump).status_code == 200
    table = "SELECT * FROM recorded_hours ORDER BY device_id, hour"
    with service.connect() as connection:
        entered = connection.execute(table).fetchall()
        assert len(entered) == 4
        for emptied in ("DELETE FROM recorded_hours", "DELETE FROM audio_chunks", "SELECT 1"):
            connection.execute(emptied)
            done = flask_ingest(service.database_url, "coverage", "--rebuild")
            assert done.returncode == 0, done.stderr
            assert connection.execute(table).fetchall() == entered
