"""Heads of requests that do not end: they hold no thread, and nobody waits for them."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import requests
from support.processes import eventually
from support.raw import read_status
from support.service import Service

THREADS = 4
STALL_SECONDS = 4
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, new_database: Callable[..., str]) -> Iterator[Service]:
    """A service with few threads."""
    service = Service(
        tmp_path_factory.mktemp("narrow"),
        new_database(),
        WORKERS="1",
        THREADS=str(THREADS),
        REQUEST_STALL_SECONDS=str(STALL_SECONDS),
    ).start()
    yield service
    assert service.stop() == 0


def _connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=30)


def _answered(connection: socket.socket, request: bytes = LIVE) -> None:
    connection.sendall(request)
    assert read_status(connection) == 200


def _begin(connection: socket.socket) -> None:
    connection.sendall(b"G")


def _begin_with_empty_lines(connection: socket.socket) -> None:
    connection.sendall(b"\r\n\r\n\r\n")


def _begin_the_next(connection: socket.socket) -> None:
    _answered(connection)
    time.sleep(0.1)  # no thread waits for it any more
    connection.sendall(b"G")


def _begin_the_next_at_once(connection: socket.socket) -> None:
    _answered(connection, LIVE + b"G")


BEGINNINGS = [_begin, _begin_with_empty_lines, _begin_the_next, _begin_the_next_at_once]


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_they_hold_no_thread(narrow: Service, begin: Callable[[socket.socket], None]) -> None:
    recorder = narrow.recorder()
    with ExitStack() as stack:
        for _ in range(3 * THREADS):
            begin(stack.enter_context(_connect(narrow)))
        started = time.monotonic()
        assert requests.get(f"{narrow.url}/health/live", timeout=30).status_code == 200
        assert narrow.upload(recorder).status_code == 200
        assert time.monotonic() - started < STALL_SECONDS / 2


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_they_are_given_up_with_a_408(
    narrow: Service, begin: Callable[[socket.socket], None]
) -> None:
    with _connect(narrow) as connection:
        begin(connection)
        started = time.monotonic()
        assert read_status(connection) == 408
        assert connection.recv(1) == b""
        assert time.monotonic() - started > STALL_SECONDS / 2


@pytest.mark.parametrize("pause", [0.0, 0.05])
@pytest.mark.parametrize("before", [b"", LIVE, b"\r\n"], ids=["first", "kept alive", "empty line"])
def test_one_that_comes_in_pieces_is_served(narrow: Service, before: bytes, pause: float) -> None:
    with _connect(narrow) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if before == LIVE:
            _answered(connection)
        else:
            connection.sendall(before)
        for byte in LIVE:
            time.sleep(pause)
            connection.sendall(bytes([byte]))
        assert read_status(connection) == 200


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_one_that_its_client_ends_is_closed_at_once(
    narrow: Service, begin: Callable[[socket.socket], None]
) -> None:
    with _connect(narrow) as connection:
        begin(connection)
        started = time.monotonic()
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
        assert time.monotonic() - started < STALL_SECONDS / 2


def test_one_of_72_kilobytes_is_served(narrow: Service) -> None:
    head = LIVE.replace(
        b"\r\n\r\n", b"\r\n" + b"".join(b"X%d: %s\r\n" % (n, b"x" * 8000) for n in range(9))
    )
    with _connect(narrow) as connection:
        _answered(connection, head + b"\r\n")


def test_a_stop_does_not_wait_for_them(tmp_path, new_database: Callable[..., str]) -> None:
    service = Service(tmp_path / "stopped", new_database(), WORKERS="1").start()
    with ExitStack() as stack:
        for _ in range(10):
            _begin(stack.enter_context(_connect(service)))
        eventually(lambda: service.health()[0] == 200, 10)
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 10
