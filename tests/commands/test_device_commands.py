"""`flask ingest add-device` and its siblings, run as an operator runs them."""

import json
from uuid import uuid4

import pytest
from support.commands import flask_ingest, flask_ingest_process
from support.recorder import Recorder
from support.service import Service

from ingest_api.models.devices import Device

UNKNOWN = "deadbeef-0000-4000-8000-000000000001"


def _add(database_url: str, *arguments: str) -> dict[str, str]:
    result = flask_ingest(database_url, "add-device", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    values: dict[str, str] = json.loads(result.stdout)
    return values


def test_a_device_that_was_added_can_upload(service: Service) -> None:
    added = _add(service.database_url)
    ids = {name: added[name] for name in ("device_id", "point_id", "register_id")}
    headers = {"Authorization": f"Bearer {added['token']}"}
    assert service.upload(service.recorder(), headers=headers, **ids).status_code == 200


def test_ids_and_token_may_be_given(database_url: str) -> None:
    ids = {name: str(uuid4()) for name in ("device-id", "point-id", "register-id")}
    options = [text for name, value in ids.items() for text in (f"--{name}", value.upper())]
    added = _add(database_url, *options, "--token", "a-token-of-my-own")
    assert added["token"] == "a-token-of-my-own"
    assert {name: added[name.replace("-", "_")] for name in ids} == ids


def test_a_token_can_come_from_standard_input(database_url: str) -> None:
    result = flask_ingest(
        database_url, "add-device", "--json", "--token", "-", stdin="a-token-from-a-pipe\n"
    )
    assert json.loads(result.stdout)["token"] == "a-token-from-a-pipe"


def test_people_see_the_token_once_and_are_told_so(database_url: str) -> None:
    result = flask_ingest(database_url, "add-device")
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert len(lines["token"]) >= 40
    assert "cannot be shown again" in result.stderr
    listed = flask_ingest(database_url, "list-devices", "--json").stdout
    assert lines["device_id"] in listed
    assert lines["token"] not in listed
    assert "token" not in listed


def test_it_prints_the_agents_configuration(database_url: str) -> None:
    result = flask_ingest(
        database_url, "add-device", "--agent-config", "--base-url", "https://ingest.example"
    )
    lines = result.stdout.splitlines()
    assert lines[0] == "identifiers:"
    assert [line.split(":")[0] for line in lines] == [
        "identifiers",
        "  point_id",
        "  register_id",
        "  device_id",
        "ingest",
        "  ingest_base_url",
        "  ingest_token",
    ]
    assert lines[5] == '  ingest_base_url: "https://ingest.example"'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add-device", "--device-id", "x"], "'x' is not a UUID"),
        (["add-device", "--token", "short"], "must be 16 to 256 printable ASCII"),
        (["rotate-token", UNKNOWN, "--token", "a token with spaces"], "without spaces"),
        (["enable-device", "nonsense"], "'nonsense' is not a UUID"),
        (["disable-device"], "Missing argument"),
        (["add-device", "--json", "--agent-config"], "mutually exclusive"),
        (["migrate", "--status", "--dry-run"], "mutually exclusive"),
        (["no-such-command"], "No such command"),
    ],
)
def test_wrong_usage_is_explained(database_url: str, arguments: list[str], message: str) -> None:
    result = flask_ingest(database_url, *arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_device_or_token_that_exists_is_refused(database_url: str) -> None:
    first = _add(database_url)
    for arguments in (["--device-id", first["device_id"]], ["--token", first["token"]]):
        result = flask_ingest(database_url, "add-device", *arguments)
        assert result.returncode == 1
        assert "Device already exists" in result.stderr


@pytest.mark.parametrize("command", ["enable-device", "disable-device", "rotate-token"])
def test_an_unknown_device_is_refused(database_url: str, command: str) -> None:
    result = flask_ingest(database_url, command, UNKNOWN)
    assert (result.returncode, result.stderr) == (1, "Error: Device not found\n")


def test_disable_enable_and_rotate_take_effect_at_once(service: Service) -> None:
    recorder = service.recorder()
    device_id = str(recorder.device.device_id)

    def run(*arguments: str) -> dict[str, str]:
        result = flask_ingest(service.database_url, *arguments, device_id, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    assert run("disable-device")["is_enabled"] is False
    assert service.upload(recorder).json()["code"] == "device_disabled"
    assert run("enable-device")["is_enabled"] is True
    assert service.upload(recorder).status_code == 200
    token = run("rotate-token")["token"]
    assert service.upload(recorder).json()["code"] == "invalid_token"
    rotated = Recorder(Device(**vars(recorder.device)), token)
    assert service.upload(rotated).status_code == 200


def test_the_list_is_a_table_for_people(service: Service, database_url: str) -> None:
    assert (
        "add one with: flask ingest add-device" in flask_ingest(database_url, "list-devices").stdout
    )
    never, seen, off = (service.recorder() for _ in range(3))
    service.upload(seen)
    flask_ingest(service.database_url, "disable-device", str(off.device.device_id))
    with service.connect() as connection:
        for recorder, age in ((off, "3 days"),):
            connection.execute(
                "UPDATE devices SET last_seen_at = now() - %s::interval WHERE device_id = %s",
                [age, recorder.device.device_id],
            )
    table = flask_ingest(service.database_url, "list-devices").stdout.splitlines()
    assert table[0].split() == ["DEVICE", "POINT", "REGISTER", "STATE", "LAST", "SEEN", "NAME"]
    rows = {line.split()[0]: line for line in table[1:]}
    assert rows[str(never.device.device_id)].endswith("enabled   never")
    assert rows[str(seen.device.device_id)].endswith("s ago")
    assert rows[str(off.device.device_id)].endswith("disabled  3 d ago")


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ("postgresql://nobody:secret-word@127.0.0.1:1/none", "The database failed (DATABASE_URL)"),
        ("mysql://localhost/x", "DATABASE_URL: must be a URL like postgresql://"),
    ],
)
def test_a_database_that_cannot_be_used_is_a_sentence(database: str, message: str) -> None:
    for command in ("migrate", "add-device", "list-devices"):
        result = flask_ingest(database, command)
        assert result.returncode == 1
        assert message in result.stderr
        assert "secret-word" not in result.stderr
        assert "Traceback" not in result.stderr


def test_without_a_schema_the_command_to_run_is_named(new_database) -> None:
    result = flask_ingest(new_database(migrated=False), "list-devices")
    assert result.returncode == 1
    assert "flask ingest migrate" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["migrate"],
        ["add-device"],
        ["list-devices"],
        ["enable-device"],
        ["disable-device"],
        ["rotate-token"],
    ],
)
def test_help_needs_no_database(command: list[str], tmp_path) -> None:
    run = flask_ingest if command else flask_ingest_process
    result = run("nonsense", *command, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "Usage:" in result.stdout
