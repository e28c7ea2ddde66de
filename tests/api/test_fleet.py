"""/api/v1/admin/fleet, the states of devices, and what makes them: times, clocks, refusals."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any
from uuid import uuid4

import pytest
import requests
from support.problems import assert_problem
from support.recorder import Recorder
from support.service import ADMIN_TOKEN, Service

from ingest_api.database.pool import Database
from ingest_api.errors import EmptyFile
from ingest_api.settings import Settings
from ingest_api.usecases.refusals import Refusals

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
MINUTE = timedelta(minutes=1)


def _fleet(service: Service, **query: Any) -> dict[str, Any]:
    url = f"{service.url}/api/v1/admin/fleet"
    answer = requests.get(url, params=query, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _device(service: Service, recorder: Recorder) -> dict[str, Any]:
    [device] = _fleet(service, q=str(recorder.device.device_id))["devices"]
    return device


def _send(service: Service, recorder: Recorder, ago: timedelta, **form: Any) -> requests.Response:
    """Upload a minute that ended so long ago."""
    end = datetime.now(UTC) - ago
    times = {"start_ts": (end - MINUTE).isoformat(), "end_ts": end.isoformat()}
    return service.upload(recorder, str(end).encode(), **times | form)


def _set(service: Service, recorder: Recorder, **columns: str) -> None:
    """Set columns of a device to SQL expressions."""
    assignments = ", ".join(f"{name} = {value}" for name, value in columns.items())
    with service.connect() as connection:
        connection.execute(
            f"UPDATE devices SET {assignments} WHERE device_id = %s".encode(),
            [recorder.device.device_id],
        )


def _age(device: dict[str, Any], name: str) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(device[name])


@pytest.fixture
def states(emptied: Service) -> dict[str, Recorder]:
    """A device in each state."""
    found = {name: emptied.recorder() for name in ("recording", "late", "silent", "refused")}
    found |= {name: emptied.recorder() for name in ("never", "disabled")}
    _send(emptied, found["recording"], MINUTE)
    _send(emptied, found["late"], timedelta(days=7))
    _send(emptied, found["silent"], MINUTE)
    _set(emptied, found["silent"], last_seen_at="now() - interval '20 min'")
    assert _send(emptied, found["refused"], MINUTE, codec="").status_code == 422
    url = f"{emptied.url}/api/v1/admin/devices/{found['disabled'].device.device_id}"
    assert requests.patch(url, json={"is_enabled": False}, headers=ADMIN).status_code == 200
    return found


def test_the_worst_come_first_and_every_state_is_counted(
    emptied: Service, states: dict[str, Recorder]
) -> None:
    order = ["refused", "silent", "late", "never", "recording", "disabled"]
    whole = _fleet(emptied)
    assert whole["counts"] == dict.fromkeys(order, 1)
    assert [device["state"] for device in whole["devices"]] == order
    ids = [str(states[state].device.device_id) for state in order]
    assert [device["device_id"] for device in whole["devices"]] == ids
    assert whole["next"] is None
    listed, cursor = [], None
    while True:
        page = _fleet(emptied, limit=4, **{"cursor": cursor} if cursor else {})
        listed += page["devices"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [device["device_id"] for device in listed] == ids
    for state, recorder in states.items():
        [device] = _fleet(emptied, state=state)["devices"]
        assert device["device_id"] == str(recorder.device.device_id)


def test_a_device_that_drains_its_spool_is_seen_but_not_recording(
    emptied: Service, states: dict[str, Recorder]
) -> None:
    late = _device(emptied, states["late"])
    assert late["state"] == "late"
    assert _age(late, "last_seen_at") < MINUTE
    week = timedelta(days=7)
    assert late["since"] == late["recorded_until"]
    assert week < _age(late, "recorded_until") < week + MINUTE
    _send(emptied, states["late"], timedelta(0))
    assert _device(emptied, states["late"])["state"] == "recording"
    _send(emptied, states["late"], timedelta(days=3))  # out of order: nothing goes back
    recording = _device(emptied, states["late"])
    assert recording["state"] == "recording"
    assert _age(recording, "since") < 2 * MINUTE  # since its long gap


def test_since_when_and_coverage(emptied: Service, states: dict[str, Recorder]) -> None:
    assert timedelta(minutes=20) < _age(_device(emptied, states["silent"]), "since") < 21 * MINUTE
    assert _age(_device(emptied, states["disabled"]), "since") < MINUTE
    recorder = emptied.recorder()
    for number in range(2, 12):
        end = datetime.now(UTC).replace(second=0, microsecond=0) - number * MINUTE
        times = {"start_ts": (end - MINUTE).isoformat(), "end_ts": end.isoformat()}
        emptied.upload(recorder, b"%d" % number, **times)
    coverage = _device(emptied, recorder)["coverage"]
    assert coverage["last_7_days"] == round(10 / (7 * 1440), 4)
    assert coverage["today"] is None or 0 <= coverage["today"] <= 1


def test_a_clock_that_is_wrong_is_told(service: Service) -> None:
    recorder = service.recorder()
    assert _send(service, recorder, MINUTE).status_code == 200
    assert _device(service, recorder)["clock_offset"] is None
    _send(service, recorder, timedelta(hours=-2))  # it ends in the future: at least so far ahead
    device = _device(service, recorder)
    assert 7190 < device["clock_offset"] <= 7200
    assert device["state"] == "recording"
    assert timedelta(seconds=-61) < _age(device, "recorded_until") < timedelta(0)
    _send(service, recorder, timedelta(days=1))  # proves nothing
    assert 7190 < _device(service, recorder)["clock_offset"] <= 7200
    for sent_at, offset in (
        ("1970-01-01T00:00:00Z", -56 * 365 * 86400),
        ("9999-12-31T00:00:00Z", 0),
    ):
        assert _send(service, recorder, MINUTE, sent_at=sent_at).status_code == 200
        told = _device(service, recorder)["clock_offset"]
        assert told < offset if offset else told > 1e11
    now = datetime.now(UTC).isoformat()
    assert _send(service, recorder, timedelta(hours=-2), sent_at=now).status_code == 200
    assert abs(_device(service, recorder)["clock_offset"]) < 30


@pytest.mark.parametrize("sent_at", ["", "yesterday", "2026-01-28", "2026-01-28T10:00:00\x00Z"])
def test_a_time_of_sending_that_is_none_is_refused(service: Service, sent_at: str) -> None:
    recorder = service.recorder()
    answer = service.upload(recorder, sent_at=sent_at)
    assert list(assert_problem(answer, 422, "validation_error")["errors"]) == ["sent_at"]
    service.assert_nothing_left(recorder)


def test_a_device_that_is_refused_for_ever_says_why(service: Service) -> None:
    recorder = service.recorder()
    for _ in range(3):
        assert service.upload(recorder, codec="").status_code == 422
    first = _device(service, recorder)
    refusal = first["refusal"]
    assert (first["state"], refusal["code"], refusal["count"]) == ("refused", "validation_error", 1)
    assert "codec" in refusal["detail"]
    assert first["last_seen_at"] is None
    with service.connect() as connection:  # the ten seconds pass
        connection.execute("UPDATE refusals SET last_at = last_at - interval '11 s'")
    assert service.upload(recorder).status_code == 200
    healed = _device(service, recorder)
    assert (healed["state"], healed["refusal"]) == ("late", None)


def test_refusals_are_counted_and_seldom_written(service: Service) -> None:
    recorder = service.recorder()
    url = {"DATABASE_URL": service.database_url}
    with closing(Database(Settings.from_environ(url))) as database:
        refusals = Refusals(database, pause=timedelta(seconds=0.3))

        def refuse() -> int:
            refusals.record(recorder.device.device_id, EmptyFile())
            refusal = _device(service, recorder)["refusal"]
            assert refusal["code"] == "empty_file"
            return int(refusal["count"])

        assert [refuse() for _ in range(3)] == [1, 1, 1]
        sleep(0.4)
        assert refuse() == 4  # with those that were not written
        sleep(0.4)
        _set(service, recorder, last_seen_at="now()")
        assert refuse() == 1  # since the last upload that was accepted


def test_what_is_not_the_contents_fault_is_no_refusal(service: Service) -> None:
    recorder = service.recorder()
    body = b"--b\r\nContent-Disposition: form-data; name="
    headers = recorder.headers | {"Content-Type": "multipart/form-data; boundary=b"}
    url = f"{service.url}/api/v1/chunks"
    assert requests.post(url, data=body, headers=headers).status_code == 400  # cut off: malformed
    other = service.recorder()
    assert service.upload(other, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert _device(service, other)["state"] == "never"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"state": "asleep"}, "state"),
        ({"q": ""}, "q"),
        ({"q": "x" * 201}, "q"),
        ({"q": "a\x00b"}, "q"),
        ({"q": "\u202e"}, "q"),
        ({"point_id": "x"}, "point_id"),
        ({"cursor": "abc"}, "cursor"),
        ({"colour": "red"}, "colour"),
    ],
)
@pytest.mark.parametrize("path", ["fleet", "devices"])
def test_it_refuses_a_malformed_query_by_field(
    service: Service, path: str, query: dict[str, str], field: str
) -> None:
    url = f"{service.url}/api/v1/admin/{path}"
    problem = assert_problem(
        requests.get(url, params=query, headers=ADMIN), 422, "validation_error"
    )
    assert list(problem["errors"]) == [field]


def test_devices_are_listed_by_text_state_and_point(
    emptied: Service, states: dict[str, Recorder]
) -> None:
    url = f"{emptied.url}/api/v1/admin/devices"
    silent = states["silent"].device
    requests.patch(f"{url}/{silent.device_id}", json={"name": "Kasse Süd 100%"}, headers=ADMIN)
    point = url.replace("devices", f"points/{states['never'].device.point_id}")
    requests.put(point, json={"name": "Markt_7"}, headers=ADMIN)

    def ids(**query: str) -> list[str]:
        found: list[str] = []
        answer = requests.get(url, params=query, headers=ADMIN)
        while True:
            found += [device["device_id"] for device in answer.json()["devices"]]
            if "next" not in answer.links:
                return found
            following = requests.compat.urljoin(url, answer.links["next"]["url"])
            answer = requests.get(following, headers=ADMIN)

    everyone = [device["device_id"] for device in requests.get(url, headers=ADMIN).json()]
    assert len(everyone) == 6
    assert ids(limit="4") == everyone
    assert ids(q="kasse Süd 100%") == [str(silent.device_id)]
    assert ids(q="MARKT_") == [str(states["never"].device.device_id)]
    assert ids(q="kasse%") == []
    assert ids(q=str(silent.register_id)[:18]) == [str(silent.device_id)]
    for state, recorder in states.items():
        assert ids(state=state) == [str(recorder.device.device_id)]
    assert ids(point_id=str(silent.point_id)) == [str(silent.device_id)]
    assert ids(point_id=str(uuid4())) == []
