"""`flask ingest relay`: every chunk gets into the stream at least once, whatever Redis does."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis
import requests
from lab.postgres import LocalPostgres, die_with_parent
from support.commands import COMMAND, Result, flask_ingest
from support.processes import eventually
from support.service import Service, clean_environ
from support.valkey import LocalValkey

from ingest_api.database.pool import Database
from ingest_api.models.devices import NewDevice
from ingest_api.settings import Settings
from ingest_api.stream.client import STREAM
from ingest_api.stream.relay import MARK, PAGE, Relay
from ingest_api.tokens import generate_token
from ingest_api.usecases import devices

pytestmark = pytest.mark.slow

FAILS, WORKS_AGAIN = "chunks are not announced, trying again", "chunks are announced again"
NOWHERE = "redis://127.0.0.1:1/0"


def _client(valkey: LocalValkey) -> "redis.Redis":
    return redis.Redis.from_url(valkey.url, decode_responses=True)


def _announced(valkey: LocalValkey) -> list[str]:
    """The ids in the stream, as they came."""
    return [fields["chunk_id"] for _, fields in _client(valkey).xrange(STREAM)]


def _store(url: str, chunks: int, *, status: str = "UPLOADED", age: str = "1 minute") -> list[str]:
    """Rows as uploads leave them; their ids, the oldest first."""
    with psycopg.connect(url, autocommit=True) as connection:
        ids = {name: uuid4() for name in ("device_id", "point_id", "register_id")}
        devices.create_device(connection, NewDevice(**ids), token=generate_token())
        rows = connection.execute(
            "INSERT INTO audio_chunks (chunk_id, device_id, point_id, register_id, start_ts,"
            "  end_ts, duration_sec, codec, sample_rate, channels, file_path, file_size_bytes,"
            "  sha256, status, created_at)"
            " SELECT gen_random_uuid(), %(device_id)s, %(point_id)s, %(register_id)s,"
            "  '2026-01-28T10:00:00Z'::timestamptz + n * interval '1 minute',"
            "  '2026-01-28T10:01:00Z'::timestamptz + n * interval '1 minute',"
            "  60, 'opus', 48000, 1, 'audio/' || n, 1, sha256(n::text::bytea), %(status)s,"
            "  now() - %(age)s::interval + n * interval '1 microsecond'"
            " FROM generate_series(1, %(chunks)s) AS n"
            " RETURNING chunk_id, start_ts",
            ids | {"status": status, "age": age, "chunks": chunks},
        ).fetchall()
    return [str(chunk_id) for chunk_id, _ in sorted(rows, key=lambda row: row[1])]


def _statuses(url: str) -> dict[str, int]:
    with psycopg.connect(url, autocommit=True) as connection:
        return dict(
            connection.execute(
                "SELECT status, count(*) FROM audio_chunks GROUP BY status"
            ).fetchall()
        )


def _execute(url: str, statement: str, *values: Any) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement, values)


def _once(url: str, redis_url: str, *options: str, **settings: str) -> Result:
    settings = {"QUEUE_BACKEND": "redis", "REDIS_URL": redis_url} | settings
    return flask_ingest(url, "relay", "--once", *options, **settings)


def _pass(url: str, valkey: LocalValkey, *options: str) -> list[str]:
    """One pass that works; the ids that it added to the stream."""
    before = _client(valkey).xlen(STREAM)
    result = _once(url, valkey.url, *options)
    assert result.returncode == 0, result.stderr
    return _announced(valkey)[before:]


def _refusal(url: str, redis_url: str, **settings: str) -> str:
    """What one pass that fails says; after the lines of the log no more than a sentence."""
    result = _once(url, redis_url, **settings)
    assert result.returncode == 1
    log, error, refusal = result.stderr.rpartition("Error: ")
    assert error
    assert all(json.loads(line)["level"] == "INFO" for line in log.splitlines())
    return refusal


class _Running:
    """A relay that goes on until it is stopped."""

    def __init__(self, log_path: Path, url: str, redis_url: str) -> None:
        self.log_path = log_path
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "relay", "--every", "0.1"],
                env=clean_environ(DATABASE_URL=url, QUEUE_BACKEND="redis", REDIS_URL=redis_url),
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def messages(self, level: str) -> list[str]:
        whole, _, _ = self.log_path.read_text().rpartition("\n")  # a line may be just being written
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line["message"] for line in lines if line["level"] == level]

    def told(self, level: str, phrase: str) -> int:
        return sum(phrase in message for message in self.messages(level))

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """It stops at once, and says 0."""
        self.process.send_signal(signum)
        started = time.monotonic()
        assert self.process.wait(30) == 0, self.log_path.read_text()
        assert time.monotonic() - started < 6
        assert self.messages("INFO")[-1] == "the relay has stopped"


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[Callable[..., _Running]]:
    started: list[_Running] = []

    def start(url: str, redis_url: str) -> _Running:
        running = _Running(tmp_path / f"relay-{len(started)}.log", url, redis_url)
        started.append(running)
        eventually(lambda: "the relay has started" in running.log_path.read_text(), 30)
        return running

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()


# One pass


def test_it_announces_what_is_uploaded_the_oldest_first(
    database_url: str, valkey: LocalValkey
) -> None:
    _store(database_url, 1)
    assert len(_pass(database_url, valkey)) == 1
    chunks = _store(database_url, 2 * PAGE + 1)
    assert _pass(database_url, valkey) == chunks
    assert _statuses(database_url) == {"QUEUED": len(chunks) + 1}
    assert _pass(database_url, valkey) == []


def test_what_is_being_uploaded_is_left_to_its_upload(
    database_url: str, valkey: LocalValkey
) -> None:
    _store(database_url, 1)
    _pass(database_url, valkey)
    _store(database_url, 1, age="-1 hour")  # however slow this test is
    assert _pass(database_url, valkey) == []
    assert _statuses(database_url) == {"QUEUED": 1, "UPLOADED": 1}


def test_a_row_of_the_earlier_service_has_no_sha256(database_url: str, valkey: LocalValkey) -> None:
    _store(database_url, 1)
    _execute(database_url, "UPDATE audio_chunks SET sha256 = NULL, duration_sec = -1")
    _pass(database_url, valkey)
    ((_, fields),) = _client(valkey).xrange(STREAM)
    assert (fields["sha256"], fields["duration_sec"]) == ("", "-1")
    assert list(fields) == [
        *("chunk_id", "device_id", "point_id", "register_id", "start_ts", "end_ts"),
        *("duration_sec", "codec", "sample_rate", "channels", "file_path", "file_size_bytes"),
        "sha256",
    ]


def test_a_row_in_somebodys_hands_is_not_waited_for(database_url: str, valkey: LocalValkey) -> None:
    _store(database_url, 1, status="DONE")
    _pass(database_url, valkey)
    _old_entries(valkey, 1)  # so that there is a stream, and nothing was forgotten
    held, *_ = chunks = _store(database_url, 10)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM audio_chunks WHERE chunk_id = %s FOR UPDATE", [held])
        assert _pass(database_url, valkey) == chunks
        assert _statuses(database_url) == {"DONE": 1, "QUEUED": 9, "UPLOADED": 1}
    assert _pass(database_url, valkey) == [held]
    assert _statuses(database_url) == {"DONE": 1, "QUEUED": 10}


def test_two_at_a_time_lose_nothing(
    start_relay: Callable[..., _Running], database_url: str, valkey: LocalValkey
) -> None:
    running = [start_relay(database_url, valkey.url) for _ in range(2)]
    chunks = [chunk for _ in range(5) for chunk in _store(database_url, 300)]
    eventually(lambda: _statuses(database_url) == {"QUEUED": len(chunks)}, 30)
    assert set(_announced(valkey)) == set(chunks)
    for relay in running:
        relay.stop()
        assert relay.messages("ERROR") == []


# A Redis that forgets


def _store_each(url: str) -> tuple[set[str], set[str]]:
    """Chunks of every status; those that are not finished, and those that are."""
    unfinished = [_store(url, 3, status=status) for status in ("QUEUED", "PROCESSING")]
    finished = [_store(url, 3, status=status) for status in ("DONE", "ERROR")]
    return set(chain(*unfinished)), set(chain(*finished))


def test_what_waited_before_there_was_redis_is_announced(
    database_url: str, valkey: LocalValkey
) -> None:
    unfinished, _ = _store_each(database_url)
    before = _statuses(database_url)
    assert sorted(_pass(database_url, valkey)) == sorted(unfinished)
    assert _statuses(database_url) == before
    assert _pass(database_url, valkey) == []


def test_what_is_being_uploaded_is_announced_to_a_redis_that_forgot(
    database_url: str, valkey: LocalValkey
) -> None:
    """Its upload may have told the Redis that was, and is about to say that it did."""
    young = _store(database_url, 2, age="-1 hour")
    assert _pass(database_url, valkey) == young
    assert _statuses(database_url) == {"QUEUED": 2}


@pytest.mark.parametrize(
    "how",
    [
        *("killed", "killed, with a file", "emptied", "stream deleted", "stream made anew"),
        *("asked", "mark broken"),
    ],
)
def test_what_redis_forgot_is_announced_again(
    database_url: str, start_valkey: Callable[..., LocalValkey], how: str
) -> None:
    keeps = how == "killed, with a file"
    valkey = start_valkey({"appendonly": "yes", "appendfsync": "always"} if keeps else None)
    _store(database_url, 1)
    _pass(database_url, valkey)
    unfinished, _ = _store_each(database_url)
    unfinished |= set(_announced(valkey))
    assert _pass(database_url, valkey) == []
    if how.startswith("killed"):
        valkey.kill()
        valkey.start()
    elif how == "emptied":
        _client(valkey).flushall()
    elif how.startswith("stream"):
        _client(valkey).delete(STREAM)
        if how == "stream made anew":  # by a consumer, before the relay could look
            _client(valkey).xgroup_create(STREAM, "workers", id="0", mkstream=True)
    elif how == "mark broken":
        run_id = _client(valkey).info("server")["run_id"]
        _client(valkey).set(MARK, f"{run_id} not-a-place")
    again = _pass(database_url, valkey, *(["--again"] if how == "asked" else []))
    assert sorted(again) == sorted(unfinished)
    assert _pass(database_url, valkey) == []


def test_it_goes_on_where_it_was_interrupted(database_url: str, valkey: LocalValkey) -> None:
    chunks = _store(database_url, 3 * PAGE, status="QUEUED")
    pages = iter(range(100))
    with _relay(database_url, valkey, stopping=lambda: next(pages) >= 2) as relay:
        relay.run_once()
    done = len(_announced(valkey))
    assert 0 < done < len(chunks)
    assert _pass(database_url, valkey) == chunks[done:]


def test_emptied_while_it_is_told_everything_it_is_told_again(
    database_url: str, valkey: LocalValkey
) -> None:
    chunks = _store(database_url, 3 * PAGE, status="QUEUED")
    pages = iter(range(100))

    def empty_it_after_two_pages() -> bool:
        if next(pages) == 3:
            _client(valkey).flushall()
        return False

    with _relay(database_url, valkey, stopping=empty_it_after_two_pages) as relay:
        relay.run_once()
    assert set(_announced(valkey)) != set(chunks)
    _pass(database_url, valkey)
    assert set(_announced(valkey)) == set(chunks)


@contextmanager
def _relay(url: str, valkey: LocalValkey, *, stopping: Callable[[], bool]) -> Iterator[Relay]:
    """One in this process, which asks us between two pages."""
    environ = {"DATABASE_URL": url, "QUEUE_BACKEND": "redis", "REDIS_URL": valkey.url}
    settings = Settings.from_environ(environ)
    with (
        closing(Database(settings)) as database,
        closing(Relay(settings, database, stopping=stopping)) as relay,
    ):
        yield relay


@pytest.mark.parametrize("name", ["list_uploaded", "list_unfinished", "mark_queued"])
def test_what_it_asks_reads_no_whole_table(read_only_url: str, name: str) -> None:
    text = (Path(__file__).parents[2] / "sql" / "queries" / "stream" / f"{name}.sql").read_text()
    names = ("age", "after_time", "after_id", "page", "chunk_ids")
    for number, parameter in enumerate((n for n in names if f"%({n})s" in text), 1):
        text = text.replace(f"%({parameter})s", f"${number}")
    with psycopg.connect(read_only_url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = str(connection.execute(f"EXPLAIN (GENERIC_PLAN) {text}").fetchall())
    assert "Seq Scan" not in plan
    if name == "list_unfinished":
        by_status = "ix_audio_chunks_(?:queued|processing|uploaded|status_start)"
        assert len(re.findall(by_status, plan)) >= 3


# A full Redis


def test_when_redis_is_full_nothing_is_lost_and_it_drains(
    database_url: str, valkey: LocalValkey
) -> None:
    chunks = _store(database_url, 1)
    _pass(database_url, valkey)
    chunks += _store(database_url, 20 * PAGE)
    client = _client(valkey)
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 1_000_000)
    assert "maxmemory" in _refusal(database_url, valkey.url)
    announced = set(_announced(valkey))
    assert 1 < len(announced) < len(chunks)
    assert _statuses(database_url)["UPLOADED"] >= len(chunks) - len(announced)
    assert "maxmemory" in _refusal(database_url, valkey.url)
    client.config_set("maxmemory", 0)
    _pass(database_url, valkey)
    assert set(_announced(valkey)) == set(chunks)
    assert _statuses(database_url) == {"QUEUED": len(chunks)}


# Trimming


def _old_entries(valkey: LocalValkey, entries: int) -> list[str]:
    """As if they had been announced long ago."""
    client = _client(valkey)
    return [
        str(client.xadd(STREAM, {"chunk_id": f"old {n}", "filler": "x" * 400}, id=f"{n}-1"))
        for n in range(1, entries + 1)
    ]


def _first(valkey: LocalValkey) -> int:
    """The number of the first old entry that is still there."""
    return int(_client(valkey).xrange(STREAM, count=1)[0][0].partition("-")[0])


def test_what_every_group_has_acknowledged_is_removed(
    database_url: str, valkey: LocalValkey
) -> None:
    client = _client(valkey)
    ids = _old_entries(valkey, 1000)
    _pass(database_url, valkey)
    assert client.xlen(STREAM) == 1000  # nobody has read it
    for group in ("fast", "slow", "new"):
        client.xgroup_create(STREAM, group, id="0")
    _pass(database_url, valkey)
    assert client.xlen(STREAM) == 1000
    client.xreadgroup("fast", "a", {STREAM: ">"}, count=1000)
    client.xreadgroup("slow", "b", {STREAM: ">"}, count=700)
    client.xreadgroup("new", "c", {STREAM: ">"}, count=500)
    client.xack(STREAM, "fast", *ids)
    client.xack(STREAM, "slow", *ids[:300], *ids[400:700])
    client.xack(STREAM, "new", *ids[:500])
    _pass(database_url, valkey)
    assert 200 < _first(valkey) <= 301  # entry 301 is the first that slow has not acknowledged
    client.xack(STREAM, "slow", *ids[300:400])
    _pass(database_url, valkey)
    assert 400 < _first(valkey) <= 501  # new has not been given entry 501
    undelivered = client.xreadgroup("new", "c", {STREAM: ">"}, count=1000)
    assert [entry_id for entry_id, _ in undelivered[0][1]] == ids[500:]


def test_what_is_not_old_stays_for_a_group_that_is_made_later(
    database_url: str, valkey: LocalValkey
) -> None:
    client = _client(valkey)
    ids = _old_entries(valkey, 1000)
    client.xgroup_create(STREAM, "workers", id="0")
    chunks = _store(database_url, 1000)
    _pass(database_url, valkey)
    new = [entry_id for entry_id, _ in client.xrange(STREAM, min="(1000-1")]
    client.xreadgroup("workers", "a", {STREAM: ">"}, count=2000)
    client.xack(STREAM, "workers", *ids, *new)
    _pass(database_url, valkey)
    left = _announced(valkey)
    assert len(left) < 1100
    assert left[-1000:] == chunks


# Stopping, and going on


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_while_it_rests(
    start_relay: Callable[..., _Running],
    database_url: str,
    valkey: LocalValkey,
    signum: signal.Signals,
) -> None:
    running = start_relay(database_url, valkey.url)
    eventually(lambda: _client(valkey).get(MARK))
    running.stop(signum)


@pytest.mark.parametrize(
    "signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_it_stops_while_it_works_and_the_next_one_goes_on(
    start_relay: Callable[..., _Running],
    database_url: str,
    valkey: LocalValkey,
    signum: signal.Signals,
) -> None:
    chunks = _store(database_url, 20 * PAGE)
    running = start_relay(database_url, valkey.url)
    eventually(lambda: running.told("INFO", "announced"))
    running.stop(signum)
    assert 0 < _statuses(database_url).get("UPLOADED", 0) < len(chunks)
    assert set(_announced(valkey)) < set(chunks)
    _pass(database_url, valkey)
    assert set(_announced(valkey)) == set(chunks)


def test_it_stops_while_redis_hangs(
    start_relay: Callable[..., _Running], database_url: str, valkey: LocalValkey
) -> None:
    running = start_relay(database_url, valkey.url)
    eventually(lambda: _client(valkey).get(MARK))
    with valkey.frozen():
        eventually(lambda: running.told("ERROR", FAILS))
        running.stop()


def _has_told(running: _Running, level: str, phrase: str, times: int) -> bool:
    return running.told(level, phrase) == times


def _has_told_more(running: _Running, errors: list[str]) -> bool:
    return len(running.messages("ERROR")) > len(errors)


def _is_queued(url: str, chunks: int) -> bool:
    return _statuses(url) == {"QUEUED": chunks}


def test_it_outlives_redis(
    start_relay: Callable[..., _Running], database_url: str, valkey: LocalValkey
) -> None:
    valkey.stop()
    running = start_relay(database_url, valkey.url)
    chunks: list[str] = []
    for n in range(1, 4):
        eventually(partial(_has_told, running, "ERROR", FAILS, n))
        chunks += _store(database_url, 10)
        valkey.start()
        eventually(partial(_has_told, running, "INFO", WORKS_AGAIN, n))
        eventually(partial(_is_queued, database_url, len(chunks)))
        assert set(_announced(valkey)) == set(chunks)
        valkey.kill()
    running.stop()
    assert all("Redis (REDIS_URL): " in message for message in running.messages("ERROR"))


def test_it_outlives_postgresql(
    start_relay: Callable[..., _Running], valkey: LocalValkey, tmp_path: Path
) -> None:
    with LocalPostgres(tmp_path / "postgres") as postgres:
        url = postgres.url()
        assert flask_ingest(url, "migrate").returncode == 0
        postgres.stop()
        running = start_relay(url, valkey.url)
        chunks: list[str] = []
        errors: list[str] = []
        for n in range(1, 3):
            eventually(partial(_has_told_more, running, errors))
            postgres.start()
            chunks += _store(url, 10)
            eventually(partial(_has_told, running, "INFO", WORKS_AGAIN, n))
            eventually(partial(_is_queued, url, len(chunks)))
            errors = running.messages("ERROR")
            assert len(errors) <= 4 * n  # once each that it is gone, away, starting...
            postgres.kill(signal.SIGQUIT)
        running.stop()
    assert set(_announced(valkey)) == set(chunks)
    assert all("the database (DATABASE_URL): " in message for message in errors)


def test_it_waits_for_a_schema(
    start_relay: Callable[..., _Running],
    new_database: Callable[..., str],
    valkey: LocalValkey,
) -> None:
    url = new_database(migrated=False)
    running = start_relay(url, valkey.url)
    eventually(lambda: running.told("ERROR", "Run: flask ingest migrate"))
    assert flask_ingest(url, "migrate").returncode == 0
    eventually(lambda: running.told("INFO", WORKS_AGAIN))
    chunks = _store(url, 3)
    eventually(lambda: _announced(valkey) == chunks)
    running.stop()


# What it refuses


def test_without_redis_one_pass_is_a_failure(database_url: str) -> None:
    refusal = _refusal(database_url, "redis://:secret-word@127.0.0.1:1/0")
    assert "Redis (REDIS_URL): " in refusal
    assert "refused" in refusal
    assert "secret-word" not in refusal


def test_without_a_database_one_pass_is_a_failure(valkey: LocalValkey) -> None:
    refusal = _refusal("postgresql://somebody:secret-word@127.0.0.1:1/none", valkey.url)
    assert "the database (DATABASE_URL): " in refusal
    assert "secret-word" not in refusal


def test_on_an_old_schema_one_pass_is_a_failure(
    new_database: Callable[..., str], valkey: LocalValkey
) -> None:
    assert "flask ingest migrate" in _refusal(new_database(migrated=False), valkey.url)


def test_with_postgresql_as_the_queue_it_says_what_to_do(database_url: str) -> None:
    refusal = _refusal(database_url, NOWHERE, QUEUE_BACKEND="postgres")
    assert "Set it to redis" in refusal
    assert "flask ingest requeue --all --status UPLOADED" in refusal


def test_bad_settings_are_told(database_url: str) -> None:
    refusal = _refusal(database_url, "http://:secret-word@host")
    assert "These settings must be changed" in refusal
    assert "REDIS_URL: must be" in refusal
    assert "secret-word" not in refusal


def test_a_key_of_another_program_is_told(database_url: str, valkey: LocalValkey) -> None:
    _store(database_url, 1)
    _client(valkey).set(STREAM, "another program's")
    assert f"another program uses the key {STREAM}" in _refusal(database_url, valkey.url)
    assert _statuses(database_url) == {"UPLOADED": 1}
    _client(valkey).delete(STREAM)
    assert len(_pass(database_url, valkey)) == 1


@pytest.mark.parametrize("url", ["redis://:secret-word@127.0.0.1:{}/0", "redis://127.0.0.1:{}/0"])
def test_a_wrong_password_is_told_and_not_shown(
    database_url: str, start_valkey: Callable[..., LocalValkey], url: str
) -> None:
    _store(database_url, 1)
    valkey = start_valkey({"requirepass": "another-word"})
    assert "secret-word" not in _refusal(database_url, url.format(valkey.port))
    assert len(_pass(database_url, valkey)) == 1


def test_a_replica_is_of_no_use_until_it_is_promoted(
    database_url: str, valkey: LocalValkey, start_valkey: Callable[..., LocalValkey]
) -> None:
    chunks = _store(database_url, 1)
    replica = start_valkey({"replicaof": f"127.0.0.1 {valkey.port}"})
    eventually(lambda: _client(replica).info("replication")["master_link_status"] == "up")
    assert "read only replica" in _refusal(database_url, replica.url)
    _client(replica).replicaof("no", "one")
    assert _pass(database_url, replica) == chunks


# All together


def _consumer(log: Any, valkey: LocalValkey, url: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, str(Path(__file__).parents[1] / "support" / "stream_consumer.py")),
            *(valkey.url, url, *arguments),
        ],
        stdout=log,
        stderr=log,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )


def _nothing_is_left(valkey: LocalValkey) -> bool:
    (group,) = _client(valkey).xinfo_groups(STREAM)
    return (group["pending"], group["lag"]) == (0, 0)


def _keep_uploading(service: Service, recorder: Any, done: threading.Event) -> list[str]:
    accepted: list[str] = []
    with requests.Session() as session:
        while not done.is_set():
            data = f"{threading.get_ident()} {len(accepted)}".encode()
            response = service.upload(recorder, data, session=session)
            assert response.status_code == 200, response.text
            assert response.elapsed.total_seconds() < 5
            accepted.append(response.json()["chunk_id"])
    return accepted


def _upload_meanwhile(service: Service, events: Sequence[Callable[[], object]]) -> list[str]:
    """Eight agents upload all the time, while one event comes after the other."""
    recorder, done = service.recorder(), threading.Event()
    with ThreadPoolExecutor(8) as agents:
        uploads = [agents.submit(_keep_uploading, service, recorder, done) for _ in range(8)]
        try:
            for event in events:
                more = sum(_statuses(service.database_url).values()) + 150
                eventually(lambda n=more: sum(_statuses(service.database_url).values()) > n, 30)
                event()
        finally:
            done.set()
        return [chunk_id for upload in uploads for chunk_id in upload.result()]


def test_killed_under_load_every_chunk_is_announced_and_finished(
    start_service: Callable[..., Service],
    start_relay: Callable[..., _Running],
    valkey: LocalValkey,
    tmp_path: Path,
) -> None:
    service = start_service(QUEUE_BACKEND="redis", REDIS_URL=valkey.url)
    url = service.database_url
    running = start_relay(url, valkey.url)
    accepted = _upload_meanwhile(
        service, [valkey.kill, lambda: None, valkey.start, valkey.kill, valkey.start, lambda: None]
    )
    eventually(lambda: _statuses(url) == {"QUEUED": len(accepted)}, 60)
    eventually(lambda: set(_announced(valkey)) == set(accepted), 60)

    with (tmp_path / "consumers.log").open("wb") as log:
        dying = _consumer(subprocess.PIPE, valkey, url, "one that dies", "dying")
        assert dying.stdout
        assert any(int(line) for line in dying.stdout)  # it has taken some
        consumers = [_consumer(log, valkey, url, name) for name in ("a", "b")]
        dying.kill()
        try:
            eventually(lambda: _statuses(url) == {"DONE": len(accepted)}, 90)
            assert [consumer.poll() for consumer in consumers] == [None, None]
            eventually(lambda: _nothing_is_left(valkey))
        finally:
            for process in (dying, *consumers):
                process.kill()
                process.wait()
    running.stop()


def test_full_and_frozen_under_load_every_chunk_is_announced(
    start_service: Callable[..., Service],
    start_relay: Callable[..., _Running],
    valkey: LocalValkey,
) -> None:
    service = start_service(QUEUE_BACKEND="redis", REDIS_URL=valkey.url)
    running = start_relay(service.database_url, valkey.url)
    client = _client(valkey)
    with ExitStack() as frozen:
        accepted = _upload_meanwhile(
            service,
            [
                lambda: client.config_set("maxmemory", 1),
                lambda: client.config_set("maxmemory", 0),
                lambda: frozen.enter_context(valkey.frozen()),
                frozen.close,
                lambda: None,
            ],
        )
    eventually(lambda: _statuses(service.database_url) == {"QUEUED": len(accepted)}, 60)
    assert set(_announced(valkey)) == set(accepted)
    running.stop()
