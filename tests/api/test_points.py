"""/api/v1/admin/points, and the names of points and devices."""

from typing import Any
from uuid import uuid4

import pytest
import requests
from support.problems import assert_problem
from support.service import ADMIN_TOKEN, Service

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture
def url(service: Service) -> str:
    return f"{service.url}/api/v1/admin/points"


def test_a_point_is_what_was_last_put(service: Service, url: str) -> None:
    point = service.recorder().device.point_id
    nothing = {"point_id": str(point), "name": None, "time_zone": "UTC"}
    named = nothing | {"name": "Köln 4 (Dom)", "time_zone": "Europe/Berlin"}
    assert requests.get(f"{url}/{point}", headers=ADMIN).json() == nothing
    for body, wanted in (
        ({"name": "Köln 4 (Dom)", "time_zone": "Europe/Berlin"}, named),
        ({"name": "x" * 200}, nothing | {"name": "x" * 200}),
        ({"name": None}, nothing),
    ):
        answer = requests.put(f"{url}/{point}", json=body, headers=ADMIN)
        assert (answer.status_code, answer.json()) == (200, wanted)
        assert requests.get(f"{url}/{point}", headers=ADMIN).json() == wanted


def test_a_point_may_be_named_before_it_has_a_device(url: str) -> None:
    point = uuid4()
    assert_problem(requests.get(f"{url}/{point}", headers=ADMIN), 404, "point_not_found")
    assert requests.put(f"{url}/{point}", json={}, headers=ADMIN).status_code == 200
    assert requests.get(f"{url}/{point}", headers=ADMIN).status_code == 200
    for method in ("GET", "PUT"):
        answer = requests.request(method, f"{url}/no-id", json={}, headers=ADMIN)
        assert_problem(answer, 404, "point_not_found")


BAD_NAMES = [
    "",
    " ",
    " x",
    "x\n",
    "a\x00b",
    "\x1b[31m",
    "\u202egpj.exe",
    "x" * 201,
    "x" * 10_000,
    5,
]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *(({"name": name}, "name") for name in BAD_NAMES),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"time_zone": None}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "Europe"}, "time_zone"),
        ({"time_zone": "a\x00"}, "time_zone"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_it_refuses_a_malformed_point_by_field(
    service: Service, url: str, body: dict[str, Any], field: str
) -> None:
    point = service.recorder().device.point_id
    answer = requests.put(f"{url}/{point}", json=body, headers=ADMIN)
    assert list(assert_problem(answer, 422, "validation_error")["errors"]) == [field]
    assert requests.get(f"{url}/{point}", headers=ADMIN).json()["name"] is None


def test_a_device_has_a_name_that_can_be_changed_and_removed(service: Service, url: str) -> None:
    devices = url.replace("points", "devices")
    ids = {name: str(uuid4()) for name in ("device_id", "point_id", "register_id")}
    requests.put(f"{url}/{ids['point_id']}", json={"name": "Markt"}, headers=ADMIN)
    new = ids | {"token_plain": uuid4().hex, "name": "Kasse 1"}
    device = requests.post(devices, json=new, headers=ADMIN).json()
    assert (device["name"], device["point_name"]) == ("Kasse 1", "Markt")

    def change(**values: Any) -> requests.Response:
        return requests.patch(f"{devices}/{ids['device_id']}", json=values, headers=ADMIN)

    assert change(name="Kasse 2").json()["name"] == "Kasse 2"
    assert change(is_enabled=False).json()["name"] == "Kasse 2"
    for name in BAD_NAMES:
        assert list(assert_problem(change(name=name), 422, "validation_error")["errors"]) == [
            "name"
        ]
    assert change(name=None).json()["name"] is None


def test_a_zone_that_nobody_knows_hides_no_device(service: Service) -> None:
    """Plain SQL can write it."""
    recorder = service.recorder()
    with service.connect() as connection:
        connection.execute(
            "INSERT INTO points (point_id, time_zone) VALUES (%s, 'Mars/Base')",
            [recorder.device.point_id],
        )
    fleet = f"{service.url}/api/v1/admin/fleet?q={recorder.device.device_id}"
    [device] = requests.get(fleet, headers=ADMIN).json()["devices"]
    assert device["time_zone"] == "Mars/Base"
