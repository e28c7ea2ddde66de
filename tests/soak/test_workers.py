"""Workers are killed with -9 in mid-work while devices upload: each chunk is done once.

Environment: WORKERS_MINUTES (1), WORKERS_COUNT (4).
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable

from lab.recorder import Recorder
from support.ledger import audit
from support.load import Load
from support.processes import eventually
from support.service import Service
from support.workers import Start

SECONDS = 60 * float(os.environ.get("WORKERS_MINUTES", "1"))
COUNT = int(os.environ.get("WORKERS_COUNT", "4"))
RATE = 10.0
LEASE = ("--lease-sec", "5")
DRAIN_SECONDS = 120


def _new_recorder(service: Service) -> Recorder:
    registered = service.recorder()
    device = registered.device
    return Recorder(device.device_id, device.point_id, device.register_id, registered.token)


def _statuses(service: Service) -> Counter[str]:
    with service.connect() as connection:
        return Counter(row[0] for row in connection.execute("SELECT status FROM audio_chunks"))


def test_each_chunk_is_done_once_though_workers_are_killed(
    start_service: Callable[..., Service], start_worker: Start
) -> None:
    service = start_service()
    recorders = [_new_recorder(service) for _ in range(10)]
    load = Load(recorders, ("127.0.0.1", service.port), rate=RATE)
    everybody = [start_worker(service, *LEASE) for _ in range(COUNT)]
    alive, kills, deadline = list(everybody), 0, time.monotonic() + SECONDS
    with load.running():
        while time.monotonic() < deadline:
            time.sleep(random.uniform(1, 3))
            alive.pop(random.randrange(COUNT)).process.kill()
            kills += 1
            alive.append(start_worker(service, *LEASE))
            everybody.append(alive[-1])
    assert load.ledger.failures == {}
    receipts = len(load.ledger.receipts)
    eventually(lambda: _statuses(service) == {"DONE": receipts}, DRAIN_SECONDS)
    found = audit(load.ledger, service.database_url, service.storage)
    assert not found.problems, found
    lines = [line.split() for worker in everybody for line in worker.lines()]
    done = Counter(chunk_id for chunk_id, status, *_ in lines if status == "DONE:")
    print(f"{receipts} chunks, {kills} kills, {receipts - len(done)} done without a word")
    assert set(done.values()) == {1}
    assert 0 <= receipts - len(done) <= kills  # a worker may be killed before it says so
