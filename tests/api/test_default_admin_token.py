"""The published default of ADMIN_TOKEN opens nothing to others, not through a proxy either."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.service import Service

from ingest_api.settings import DEFAULT_ADMIN_TOKEN

HEAD = f"Host: localhost\r\nAuthorization: Bearer {DEFAULT_ADMIN_TOKEN}\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def default(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[tuple[Service, Path]]:
    """A service with the default token, and its unix socket."""
    folder = tmp_path_factory.mktemp("default")
    running = Service(folder, new_database(), ADMIN_TOKEN=DEFAULT_ADMIN_TOKEN, WORKERS="1")
    binds = f"--bind unix:{folder}/socket --bind {running.address[0]}:{running.port}"
    running.settings["GUNICORN_CMD_ARGS"] = binds
    yield running.start(), folder / "socket"
    assert running.stop() == 0


def _list_devices(connection: socket.socket, header: str = "", version: str = "1.1") -> tuple:
    with closing(connection):
        request = f"GET /api/v1/admin/devices HTTP/{version}\r\n{HEAD}{header}\r\n"
        connection.sendall(request.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = json.loads(answer.read())
        return answer.status, body["code"] if answer.status != 200 else None


REFUSED = (401, "default_admin_token")


def test_it_works_from_the_same_machine(default: tuple[Service, Path]) -> None:
    assert _list_devices(socket.create_connection(default[0].address)) == (200, None)


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 192.0.2.1",
        "Forwarded: for=192.0.2.1",
        "X-Real-IP: 127.0.0.1",
        "Via: 1.1 p",
    ],
)
def test_it_is_refused_through_a_proxy(default: tuple[Service, Path], header: str) -> None:
    connection = socket.create_connection(default[0].address)
    assert _list_devices(connection, f"{header}\r\n") == REFUSED


def test_it_is_refused_through_a_proxy_that_adds_nothing(default: tuple[Service, Path]) -> None:
    connection = socket.create_connection(default[0].address)
    assert _list_devices(connection, version="1.0") == REFUSED


def test_it_is_refused_on_a_unix_socket(default: tuple[Service, Path]) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(default[1]))
    assert _list_devices(connection) == REFUSED
