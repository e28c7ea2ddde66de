"""`./scripts/example-worker --redis`: a consumer group of the stream in a real Valkey."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from support.leases import HttpWorker, row
from support.processes import eventually
from support.service import Service
from support.valkey import LocalValkey
from support.workers import SLOW, Start, Worker, status, upload

STREAM, GROUP = "ingest:chunks", "workers"


class Site:
    """A service that announces in a Valkey, and workers that hear of it there."""

    def __init__(self, valkey: LocalValkey, service: Service, start_worker: Start) -> None:
        self.valkey, self.service, self._start = valkey, service, start_worker
        self.recorder = service.recorder()
        self.redis = redis.Redis.from_url(valkey.url, decode_responses=True)

    def worker(self, *arguments: str, **options: Path) -> Worker:
        return self._start(self.service, "--redis", self.valkey.url, *arguments, **options)

    def upload(self, count: int = 1) -> list[str]:
        return upload(self.service, self.recorder, count)

    def all_done(self, ids: list[str], seconds: float = 30) -> None:
        eventually(lambda: {status(self.service, id_) for id_ in ids} == {"DONE"}, seconds)

    def pending(self) -> int:
        return self.redis.xpending(STREAM, GROUP)["pending"]


@pytest.fixture
def site(valkey: LocalValkey, start_service: Callable[..., Service], start_worker: Start) -> Site:
    service = start_service(QUEUE_BACKEND="redis", REDIS_URL=valkey.url)
    return Site(valkey, service, start_worker)


def test_two_workers_share_the_stream_and_do_each_chunk_once(site: Site) -> None:
    ids = site.upload(20)
    workers = [site.worker("--lease-sec", "10") for _ in range(2)]
    ids += upload(site.service, site.service.recorder(), 20)
    site.all_done(ids)
    eventually(lambda: site.pending() == 0, 30)
    said = [line.split()[0] for worker in workers for line in worker.lines()]
    assert sorted(said) == sorted(ids)
    assert {row(site.service, chunk_id)["attempts"] for chunk_id in ids} == {1}
    for worker in workers:
        worker.process.terminate()
        assert worker.end() == 0


def test_it_ends_when_neither_stream_nor_queue_has_anything(site: Site) -> None:
    ids = site.upload(3)
    site.redis.flushall()  # and what is in the queue alone is done as well
    ids += site.upload(3)
    assert site.worker("--drain").end() == 0
    site.all_done(ids)
    assert site.pending() == 0


def test_what_a_killed_worker_had_another_finishes(site: Site) -> None:
    [chunk_id] = site.upload()
    killed = site.worker("--lease-sec", "2", program=SLOW)
    killed.has_begun()
    killed.process.kill()
    assert site.pending() == 1
    site.worker("--lease-sec", "2", "--worker", "heir")
    site.all_done([chunk_id])
    eventually(lambda: site.pending() == 0)
    found = row(site.service, chunk_id)
    assert (found["worker"], found["attempts"]) == ("heir", 2)


def test_idle_entries_are_found_behind_many_that_are_not(site: Site) -> None:
    site.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    ids = site.upload(50)
    site.redis.xreadgroup(GROUP, "dead", {STREAM: ">"})
    [(last, _)] = site.redis.xrevrange(STREAM, count=1)
    site.redis.xclaim(STREAM, GROUP, "dead", 0, [last], idle=3_600_000)
    worker = site.worker()
    eventually(worker.lines)
    assert worker.lines()[0].startswith(ids[-1])


def test_an_entry_stays_while_another_worker_has_its_chunk(site: Site) -> None:
    other = HttpWorker(site.service, "other")
    [chunk_id] = site.upload()
    [taken] = other.claim()
    assert taken["chunk_id"] == chunk_id
    worker = site.worker("--lease-sec", "1")
    eventually(lambda: site.redis.exists(STREAM) and site.redis.xinfo_groups(STREAM))
    eventually(lambda: site.pending() == 1)
    assert other.done(taken).status_code == 200
    eventually(lambda: site.pending() == 0)  # looked at again after a lease's time
    assert worker.lines() == []


def test_entries_of_which_nothing_is_left_to_do_are_acknowledged(site: Site) -> None:
    done, pruned = site.upload(2)
    other = HttpWorker(site.service)
    for chunk in other.claim(2):
        other.done(chunk)
    with site.service.connect() as connection:
        connection.execute("DELETE FROM audio_chunks WHERE chunk_id = %s", [pruned])
        connection.execute("INSERT INTO pruned_chunks (chunk_id) VALUES (%s)", [pruned])
    site.redis.xadd(STREAM, {"chunk_id": str(uuid4())})  # type: ignore[dict-item]
    site.redis.xadd(STREAM, {"chunk_id": "../../admin/devices"})
    site.redis.xadd(STREAM, {b"\xff": b"\xff"})
    worker = site.worker("--drain")
    assert worker.end() == 0
    assert (site.pending(), site.redis.xinfo_groups(STREAM)[0]["lag"]) == (0, 0)
    assert worker.lines() == []
    assert status(site.service, done) == "DONE"


def test_it_goes_on_when_redis_has_forgotten_everything(site: Site) -> None:
    ids = site.upload()
    site.worker()
    site.all_done(ids)
    site.redis.flushall()
    ids = site.upload()
    site.all_done(ids)
    assert site.pending() == 0


def test_while_redis_is_away_it_takes_from_the_queue(site: Site) -> None:
    worker = site.worker()
    site.all_done(site.upload())
    site.valkey.kill()
    worker.complaint("Redis again in")
    ids = site.upload()
    with site.service.connect() as connection:  # nobody can announce them: an operator helps
        connection.execute("UPDATE audio_chunks SET status = 'QUEUED' WHERE status = 'UPLOADED'")
    site.all_done(ids, 60)
    site.valkey.start()
    site.all_done(site.upload(), 60)
