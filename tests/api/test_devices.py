"""/api/v1/admin/devices: create, list, change."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import requests
from support.problems import assert_problem
from support.service import ADMIN_TOKEN, Service

from ingest_api.schemas.devices import dump_devices
from ingest_api.usecases.devices import list_devices

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
FIELDS = [
    *("device_id", "point_id", "register_id", "is_enabled", "created_at", "last_seen_at"),
    *("name", "point_name"),
]

UNKNOWN = "deadbeef-0000-4000-8000-000000000001"


@pytest.fixture
def url(service: Service) -> str:
    return f"{service.url}/api/v1/admin/devices"


def _new_device(**changes: Any) -> dict[str, Any]:
    ids = {name: str(uuid4()) for name in ("device_id", "point_id", "register_id")}
    return ids | {"token_plain": uuid4().hex} | changes


def test_it_creates_a_device_that_can_upload(service: Service, url: str) -> None:
    wanted = _new_device()
    response = requests.post(url, json=wanted, headers=ADMIN)
    assert response.status_code == 201
    device = response.json()
    assert list(device) == FIELDS
    assert {name: device[name] for name in FIELDS[:3]} == {n: wanted[n] for n in FIELDS[:3]}
    assert device["is_enabled"] is True
    assert device["last_seen_at"] is None
    assert datetime.fromisoformat(device["created_at"]).utcoffset() is not None
    assert device["created_at"].endswith("Z")
    recorder = service.recorder()
    headers = {"Authorization": f"Bearer {wanted['token_plain']}"}
    ids = {name: wanted[name] for name in FIELDS[:3]}
    assert service.upload(recorder, headers=headers, **ids).status_code == 200


def test_a_token_never_leaves_the_service(service: Service, url: str) -> None:
    wanted = _new_device()
    answers = [requests.post(url, json=wanted, headers=ADMIN), requests.get(url, headers=ADMIN)]
    for answer in answers:
        assert wanted["token_plain"] not in answer.text
        assert "hash" not in answer.text
    assert wanted["token_plain"] not in service.log_path.read_text()


def test_it_lists_devices_newest_first(url: str) -> None:
    created = [requests.post(url, json=_new_device(), headers=ADMIN).json() for _ in range(3)]
    listed = requests.get(url, headers=ADMIN).json()
    assert isinstance(listed, list)
    assert listed[:3] == created[::-1]


def test_a_list_in_pages_is_the_same(new_database: Callable[..., str]) -> None:
    """Some were registered in the same instant."""
    with psycopg.connect(new_database(), autocommit=True) as connection:
        assert "".join(dump_devices(list_devices(lambda: nullcontext(connection)))) == "[]\n"
        connection.execute(
            "INSERT INTO devices (device_id, point_id, register_id, token_hash, created_at)"
            " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), number,"
            " now() - interval '1 h' * (number / 2) FROM generate_series(1, 4) AS number"
        )
        for page in range(1, 6):
            found = list(list_devices(lambda: nullcontext(connection), page=page))
            devices = [device for devices in found for device in devices]
            order = attrgetter("created_at", "device_id")
            assert devices == sorted(devices, key=order, reverse=True)
            listed = json.loads("".join(dump_devices(found)))
            assert [device["device_id"] for device in listed] == [str(d.device_id) for d in devices]
            assert len({device.device_id for device in devices}) == 4
            assert max(map(len, found)) == min(page, 4)


def test_it_refuses_a_second_device_with_the_same_id_or_token(url: str) -> None:
    first = _new_device()
    assert requests.post(url, json=first, headers=ADMIN).status_code == 201
    again = _new_device(device_id=first["device_id"].upper())
    same_token = _new_device(token_plain=first["token_plain"])
    phrase = "Device already exists"
    assert_problem(requests.post(url, json=again, headers=ADMIN), 409, "device_exists", phrase)
    assert_problem(requests.post(url, json=same_token, headers=ADMIN), 409, "token_in_use", phrase)
    listed = [device["device_id"] for device in requests.get(url, headers=ADMIN).json()]
    assert listed.count(first["device_id"]) == 1
    assert same_token["device_id"] not in listed


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"device_id": "x"}, "device_id"),
        ({"device_id": 5}, "device_id"),
        ({"point_id": None}, "point_id"),
        ({"register_id": ["a"]}, "register_id"),
        ({"token_plain": "x" * 15}, "token_plain"),
        ({"token_plain": "x" * 257}, "token_plain"),
        ({"token_plain": "with a space in it"}, "token_plain"),
        ({"token_plain": "nul\x00nul\x00nul\x00nul\x00"}, "token_plain"),
        ({"token_plain": "tökens-are-ascii-only"}, "token_plain"),
        ({"token_plain": "x" * 20 + "\n"}, "token_plain"),
        ({"token_plain": 1234567890123456}, "token_plain"),
        ({"is_enabled": False}, "is_enabled"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_it_refuses_a_malformed_device_by_field(
    url: str, changes: dict[str, Any], field: str
) -> None:
    response = requests.post(url, json=_new_device(**changes), headers=ADMIN)
    problem = assert_problem(response, 422, "validation_error", field)
    assert list(problem["errors"]) == [field]


@pytest.mark.parametrize("name", ["device_id", "point_id", "register_id", "token_plain"])
def test_it_refuses_a_device_without_a_field(url: str, name: str) -> None:
    wanted = _new_device()
    del wanted[name]
    problem = assert_problem(
        requests.post(url, json=wanted, headers=ADMIN), 422, "validation_error", name
    )
    assert list(problem["errors"]) == [name]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b"\xff\xfe", b'{"a": ' * 10_000, b"[" * 30_000, b"9" * 5000 + b"x"],
    ids=lambda body: repr(body[:8]),
)
def test_it_refuses_bad_json(url: str, body: bytes) -> None:
    headers = ADMIN | {"Content-Type": "application/json"}
    for method in ("POST", "PATCH"):
        target = url if method == "POST" else f"{url}/{uuid4()}"
        response = requests.request(method, target, data=body, headers=headers)
        assert_problem(response, 400, "bad_request")


@pytest.mark.parametrize("body", ["[]", '"text"', "5", "null", "[{}]"])
def test_it_refuses_json_of_another_shape(url: str, body: str) -> None:
    headers = ADMIN | {"Content-Type": "application/json"}
    assert_problem(requests.post(url, data=body, headers=headers), 422, "validation_error")


def test_it_refuses_a_form_and_a_body_that_is_too_large(url: str) -> None:
    response = requests.post(url, data=_new_device(), headers=ADMIN)
    assert_problem(response, 415, "unsupported_media_type", "application/json")
    response = requests.post(url, json=_new_device(token_plain="x" * 100_000), headers=ADMIN)
    assert_problem(response, 413, "request_too_large")


def test_it_changes_what_is_named_and_nothing_else(service: Service, url: str) -> None:
    recorder = service.recorder()
    target = f"{url}/{recorder.device.device_id}"

    def change(**values: Any) -> dict[str, Any]:
        response = requests.patch(target, json=values, headers=ADMIN)
        assert response.status_code == 200
        assert list(response.json()) == FIELDS
        return response.json()

    assert change(is_enabled=False)["is_enabled"] is False
    assert service.upload(recorder).status_code == 401
    assert change()["is_enabled"] is False
    assert change(is_enabled=True)["is_enabled"] is True
    assert service.upload(recorder).status_code == 200
    assert change(token_plain="a-new-token-" + uuid4().hex)["is_enabled"] is True
    assert_problem(service.upload(recorder), 401, "invalid_token")


def test_it_refuses_a_change_to_a_token_in_use(service: Service, url: str) -> None:
    one, other = service.recorder(), service.recorder()
    target = f"{url}/{one.device.device_id}"
    response = requests.patch(target, json={"token_plain": other.token}, headers=ADMIN)
    assert_problem(response, 409, "token_in_use")
    assert service.upload(one).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"is_enabled": "yes"}, "is_enabled"),
        ({"is_enabled": 1}, "is_enabled"),
        ({"is_enabled": None}, "is_enabled"),
        ({"token_plain": "short"}, "token_plain"),
        ({"device_id": UNKNOWN}, "device_id"),
    ],
)
def test_it_refuses_a_malformed_change_by_field(
    service: Service, url: str, body: dict[str, Any], field: str
) -> None:
    target = f"{url}/{service.recorder().device.device_id}"
    problem = assert_problem(
        requests.patch(target, json=body, headers=ADMIN), 422, "validation_error", field
    )
    assert list(problem["errors"]) == [field]


@pytest.mark.parametrize("device_id", [UNKNOWN, "not-a-uuid", "%00"])
def test_an_unknown_device_is_not_found(url: str, device_id: str) -> None:
    response = requests.patch(f"{url}/{device_id}", json={"is_enabled": True}, headers=ADMIN)
    assert_problem(response, 404, "device_not_found", "Device not found")


@pytest.mark.parametrize(
    ("header", "code", "phrase"),
    [
        (None, "missing_token", "Missing Authorization header"),
        ("Basic abc", "invalid_scheme", "Invalid authorization scheme"),
        ("Bearer ", "empty_token", "Empty token"),
        ("Bearer wrong", "invalid_admin_token", "Invalid admin token"),
        (f"Bearer {ADMIN_TOKEN}x", "invalid_admin_token", "Invalid admin token"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_it_needs_the_admin_token(
    url: str, method: str, header: str | None, code: str, phrase: str
) -> None:
    headers = {"Authorization": header} if header else {}
    response = requests.request(method, url, json=_new_device(), headers=headers)
    assert_problem(response, 401, code, phrase)


def test_a_device_token_is_no_admin_token(service: Service, url: str) -> None:
    response = requests.get(url, headers=service.recorder().headers)
    assert_problem(response, 401, "invalid_admin_token")


def test_ids_are_answered_in_the_standard_spelling(url: str) -> None:
    wanted = _new_device()
    spelled = wanted | {"device_id": "{" + wanted["device_id"].upper() + "}"}
    device = requests.post(url, json=spelled, headers=ADMIN).json()
    assert device["device_id"] == str(UUID(wanted["device_id"]))
