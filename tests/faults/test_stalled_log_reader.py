"""A reader of standard error that stalls, such as a log shipper, stops nothing but the log."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from support.processes import eventually
from support.service import Service


@pytest.fixture
def full_pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe without space whose reader does not read, and the reader's end."""
    path = tmp_path / "stderr"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"\n" * 64)
    os.close(writer)
    yield path, reader
    os.close(reader)


@pytest.fixture
def stalled(
    tmp_path: Path, new_database: Callable[..., str], full_pipe: tuple[Path, int]
) -> Iterator[Service]:
    """A service that cannot write to its standard error."""
    running = Service(tmp_path / "service", new_database(), WORKERS="1")
    running.prefix = ("sh", "-c", f'exec "$@" 2>{full_pipe[0]}', "sh")
    running.start(wait=False)
    eventually(lambda: _is_live(running), 30)
    yield running
    running.kill()


def _is_live(service: Service) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{service.url}/health/live", timeout=5).status_code == 200
    return False


def _read(descriptor: int) -> str:
    text = b""
    with suppress(BlockingIOError):
        while data := os.read(descriptor, 65536):
            text += data
            time.sleep(0.001)
    return text.decode()


def test_uploads_are_answered_and_the_service_stops_in_time(stalled: Service) -> None:
    recorder = stalled.recorder()
    for number in range(20):
        assert stalled.upload(recorder, b"%d" % number).status_code == 200
    assert _is_live(stalled)
    assert stalled.stop(20) == 0


def test_a_reader_that_returns_is_told_how_many_lines_it_missed(
    stalled: Service, full_pipe: tuple[Path, int]
) -> None:
    session, sent = requests.Session(), 400
    for _ in range(sent):  # 1.6 MB of log
        session.get(f"{stalled.url}/{'x' * 4000}", timeout=10)
    text = ""

    def has_all() -> bool:
        nonlocal text
        text += _read(full_pipe[1])
        return "log lines dropped" in text

    eventually(has_all, 20)
    assert _is_live(stalled)
    text += _read(full_pipe[1])
    lines = text.strip().splitlines()
    dropped = int(re.search(r"(\d+) log lines dropped", text).group(1))
    assert sum("xxxx" in line for line in lines) + dropped == sent
    assert "/health/live" in lines[-1]
