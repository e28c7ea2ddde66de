"""100,000 devices are registered, and administrators list them while others upload."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from support.service import ADMIN_TOKEN, Service

DEVICES = 100_000
LISTS = 8
UPLOADS = 200
MOST_MIB = 80  # of a process's growth; one whole list takes more


@pytest.fixture(scope="module")
def large(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("large"), new_database(), WORKERS="2").start()
    with service.connect() as connection:
        connection.execute(
            "INSERT INTO devices (device_id, point_id, register_id, token_hash)"
            " SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), number"
            " FROM generate_series(1, %s) AS number",
            [DEVICES],
        )
    yield service
    assert service.stop() == 0


def _get(service: Service, *, stream: bool = False) -> requests.Response:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    return requests.get(f"{service.url}/api/v1/admin/devices", headers=headers, stream=stream)


def _list(service: Service) -> int:
    return len(_get(service).json())


def test_eight_lists_at_once_hold_up_no_upload(large: Service) -> None:
    recorders = [large.recorder() for _ in range(4)]
    idle = _peaks(large)
    waited = []
    with ThreadPoolExecutor(LISTS) as pool:
        lists = [pool.submit(_list, large) for _ in range(LISTS)]
        number = 0
        while number < UPLOADS or not all(found.done() for found in lists):
            started = time.monotonic()
            answer = large.upload(recorders[number % 4], b"%d" % number)
            waited.append(time.monotonic() - started)
            assert answer.status_code == 200
            number += 1
            if number % 20 == 0:
                assert large.health()[0] == 200
    assert {found.result() for found in lists} == {DEVICES + len(recorders)}
    assert max(waited) < 2.0
    grown = [now - before for now, before in zip(_peaks(large), idle, strict=True)]
    assert max(grown) < MOST_MIB, grown


def test_a_list_that_fails_midway_does_not_look_complete(large: Service) -> None:
    pieces = _get(large, stream=True).iter_content(2**16)
    next(pieces)
    with large.connect() as connection:
        connection.execute("ALTER TABLE devices RENAME TO away")
        try:
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                list(pieces)
        finally:
            connection.execute("ALTER TABLE away RENAME TO devices")


def _peaks(service: Service) -> list[int]:
    """What each server process has had in memory at most, in MiB."""
    status = [Path(f"/proc/{pid}/status").read_text() for pid in service.workers()]
    return [int(text.partition("VmHWM:")[2].split()[0]) // 1024 for text in status]
