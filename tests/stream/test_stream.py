"""Uploads with QUEUE_BACKEND=redis: each is announced, and none fails or waits because Redis does.

The figures of scripts/README.md: ./scripts/test tests/stream/test_stream.py -k latency -s
"""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from support.commands import flask_ingest
from support.processes import eventually
from support.recorder import SPEECH, Recorder
from support.service import Service, clean_environ
from support.valkey import LocalValkey

from ingest_api.settings import Settings, SettingsError
from ingest_api.stream.client import STREAM, StreamError, connect

NOWHERE = "redis://127.0.0.1:1/0"
FAILED, WORKS_AGAIN = "uploads are not announced in Redis", "uploads are announced in Redis again"

Start = Callable[..., Service]


def _client(valkey: LocalValkey) -> "redis.Redis":
    return redis.Redis.from_url(valkey.url, decode_responses=True)


def _entries(valkey: LocalValkey) -> list[dict[str, str]]:
    return [fields for _, fields in _client(valkey).xrange(STREAM)]


def _upload(service: Service, recorder: Recorder, data: bytes = SPEECH) -> dict[str, Any]:
    response = service.upload(recorder, data)
    assert response.status_code == 200, response.text
    return response.json()


def _upload_until_queued(
    service: Service, recorder: Recorder, data: bytes = SPEECH
) -> list[dict[str, Any]]:
    """Once, if this machine has the time; the answers."""
    answers = [_upload(service, recorder, data)]
    while not answers[-1]["queued"]:
        assert len(answers) < 10
        answers.append(_upload(service, recorder, data))
    return answers


def _messages(service: Service, level: str) -> list[str]:
    return [line["message"] for line in service.log() if line["level"] == level]


def _told(service: Service, level: str, phrase: str) -> int:
    return sum(phrase in message for message in _messages(service, level))


@pytest.fixture
def start(start_service: Start) -> Start:
    """A function that starts a service with one worker, announcing in this Redis."""

    def start(url: str, **settings: str) -> Service:
        return start_service(
            **{"QUEUE_BACKEND": "redis", "REDIS_URL": url, "WORKERS": "1"} | settings
        )

    return start


@pytest.fixture(scope="module")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalValkey]:
    """One that no test of this module kills, freezes or fills."""
    with LocalValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture(scope="module")
def without_redis(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[Service]:
    """A service whose queue is PostgreSQL."""
    running = Service(tmp_path_factory.mktemp("postgres"), new_database(), WORKERS="1").start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def with_redis(
    tmp_path_factory: pytest.TempPathFactory, without_redis: Service, shared_valkey: LocalValkey
) -> Iterator[Service]:
    """Another, with the same rows and files, that announces."""
    settings = {
        "QUEUE_BACKEND": "redis",
        "REDIS_URL": shared_valkey.url,
        "AUDIO_STORAGE_DIR": str(without_redis.storage),
        "WORKERS": "1",
    }
    folder = tmp_path_factory.mktemp("redis")
    running = Service(folder, without_redis.database_url, **settings)
    running.storage = without_redis.storage
    running.start()
    _upload_until_queued(running, running.recorder(), b"so that the connection is open")
    yield running
    assert running.stop() == 0


# Announcing


def test_a_chunk_is_announced_with_all_that_is_known_of_it(
    with_redis: Service, shared_valkey: LocalValkey
) -> None:
    service, valkey = with_redis, shared_valkey
    recorder = service.recorder()
    _client(valkey).xtrim(STREAM, 0, approximate=False)
    answers = _upload_until_queued(service, recorder)
    answer = answers[0]
    assert answer["duplicate"] is False
    assert {row["status"] for row in service.rows(recorder)} == {"QUEUED"}
    entries = _entries(valkey)
    assert entries == [entries[0]] * len(entries)
    assert len(entries) <= len(answers)
    assert entries[:1] == [
        {
            "chunk_id": answer["chunk_id"],
            "device_id": str(recorder.device.device_id),
            "point_id": str(recorder.device.point_id),
            "register_id": str(recorder.device.register_id),
            "start_ts": "2026-01-28T10:00:00Z",
            "end_ts": "2026-01-28T10:01:00Z",
            "duration_sec": "60",
            "codec": "opus",
            "sample_rate": "48000",
            "channels": "1",
            "file_path": answer["stored_path"],
            "file_size_bytes": str(len(SPEECH)),
            "sha256": answer["sha256"],
        }
    ]


def test_a_replay_of_what_was_announced_is_not_announced(
    with_redis: Service, shared_valkey: LocalValkey
) -> None:
    service, valkey = with_redis, shared_valkey
    recorder = service.recorder()
    _upload_until_queued(service, recorder)
    entries = _entries(valkey)
    answer = _upload(service, recorder)
    assert (answer["queued"], answer["duplicate"]) == (True, True)
    assert _entries(valkey) == entries


def test_a_replay_announces_what_could_not_be_announced(start: Start, valkey: LocalValkey) -> None:
    service = start(valkey.url)
    recorder = service.recorder()
    valkey.kill()
    assert _upload(service, recorder)["queued"] is False
    assert service.rows(recorder)[0]["status"] == "UPLOADED"
    valkey.start()
    answer = _upload_until_queued(service, recorder)[-1]
    assert answer["duplicate"] is True
    assert {entry["chunk_id"] for entry in _entries(valkey)} == {answer["chunk_id"]}
    assert service.rows(recorder)[0]["status"] == "QUEUED"


def test_many_at_once_are_each_announced_once(start: Start, valkey: LocalValkey) -> None:
    service = start(valkey.url, WORKERS="2")
    recorder = service.recorder()
    _upload_until_queued(service, recorder, b"so that a connection is open")
    answers = service.upload_at_once(recorder, [b"chunk %d" % number for number in range(100)])
    queued = [answer.json()["chunk_id"] for answer in answers if answer.json()["queued"]]
    entries = [entry["chunk_id"] for entry in _entries(valkey)]
    assert len(entries) == len(set(entries))
    assert set(queued) <= set(entries)
    by_status = {str(row["chunk_id"]): row["status"] for row in service.rows(recorder)}
    assert {by_status[chunk_id] for chunk_id in queued} == {"QUEUED"}


def test_with_postgresql_as_the_queue_redis_is_left_alone(
    start: Start, valkey: LocalValkey
) -> None:
    service = start(valkey.url, QUEUE_BACKEND="postgres")
    recorder = service.recorder()
    before = _client(valkey).info("stats")["total_connections_received"]
    assert _upload(service, recorder)["queued"] is True
    with service.connect() as connection:
        connection.execute("UPDATE audio_chunks SET status = 'UPLOADED'")
    assert _upload(service, recorder)["queued"] is False
    assert service.rows(recorder)[0]["status"] == "UPLOADED"
    assert _client(valkey).info("stats")["total_connections_received"] == before + 1
    assert _entries(valkey) == []


def test_what_cannot_be_marked_stays_to_be_announced(
    with_redis: Service, shared_valkey: LocalValkey
) -> None:
    service, valkey = with_redis, shared_valkey
    recorder = service.recorder()
    with service.connect() as connection:
        connection.execute(
            "ALTER TABLE audio_chunks ADD CONSTRAINT never CHECK (status <> 'QUEUED') NOT VALID"
        )
    answer = _upload(service, recorder)
    assert answer["queued"] is False
    assert answer["chunk_id"] in {entry["chunk_id"] for entry in _entries(valkey)}
    assert _told(service, "WARNING", "could not be marked") == 1
    with service.connect() as connection:
        connection.execute("ALTER TABLE audio_chunks DROP CONSTRAINT never")
    _upload_until_queued(service, recorder)


@pytest.mark.parametrize(
    ("was", "backend", "becomes", "entries"),
    [
        *(("UPLOADED", "redis", "QUEUED", 1), ("PROCESSING", "redis", "QUEUED", 1)),
        *(("DONE", "redis", "DONE", 0), ("UPLOADED", "postgres", "QUEUED", 0)),
        *(("PROCESSING", "postgres", "QUEUED", 0), ("DONE", "postgres", "DONE", 0)),
    ],
)
def test_a_chunk_that_was_given_up_waits_as_new_ones_do(
    without_redis: Service,
    with_redis: Service,
    shared_valkey: LocalValkey,
    was: str,
    backend: str,
    becomes: str,
    entries: int,
) -> None:
    recorder = without_redis.recorder()
    _give_up(without_redis, recorder, was)
    service = with_redis if backend == "redis" else without_redis
    _upload_until_queued(service, recorder)
    [row] = service.rows(recorder)
    assert row["status"] == becomes
    announced = {entry["chunk_id"] for entry in _entries(shared_valkey)}
    assert (str(row["chunk_id"]) in announced) is bool(entries)


@pytest.mark.parametrize(("backend", "becomes"), [("redis", "UPLOADED"), ("postgres", "QUEUED")])
def test_fsck_lets_it_wait_as_new_ones_do(
    without_redis: Service, backend: str, becomes: str
) -> None:
    service = without_redis
    recorder = service.recorder()
    path, content = _give_up(service, recorder, "UPLOADED")
    path.write_bytes(content)
    result = flask_ingest(
        service.database_url,
        *("fsck", "--repair"),
        AUDIO_STORAGE_DIR=str(service.storage),
        QUEUE_BACKEND=backend,
    )
    assert f"{becomes} again" in result.stdout
    assert service.rows(recorder)[0]["status"] == becomes


def _give_up(service: Service, recorder: Recorder, was: str) -> tuple[Path, bytes]:
    """A chunk of this status whose file is then lost, which fsck sees; the file, as it was."""
    path = service.storage / _upload(service, recorder)["stored_path"]
    with service.connect() as connection:
        connection.execute(
            "UPDATE audio_chunks SET status = %s WHERE device_id = %s",
            [was, recorder.device.device_id],
        )
    content = path.read_bytes()
    path.unlink()
    settings = {"AUDIO_STORAGE_DIR": str(service.storage)}
    result = flask_ingest(service.database_url, "fsck", "--repair", **settings)
    assert "marked ERROR" in result.stdout
    return path, content


# Redis down, gone, frozen, full, or not for us


def test_without_redis_the_service_starts_and_says_so(start: Start) -> None:
    service = start(NOWHERE)
    recorder = service.recorder()
    assert _told(service, "ERROR", "starting without Redis (REDIS_URL), uploads are stored") == 1
    assert _upload(service, recorder)["queued"] is False
    assert service.rows(recorder)[0]["status"] == "UPLOADED"
    assert service.health()[1]["status"] == "ok"


@pytest.mark.slow
def test_an_outage_is_told_once_and_so_is_its_end(start: Start, valkey: LocalValkey) -> None:
    service = start(valkey.url)
    recorder = service.recorder()
    numbers = iter(range(1_000_000))

    def queued() -> bool:
        return bool(_upload(service, recorder, b"chunk %d" % next(numbers))["queued"])

    eventually(queued)
    valkey.kill()
    assert not any(queued() for _ in range(20))
    assert _told(service, "ERROR", FAILED) == 1
    valkey.start()
    eventually(queued, 20)
    eventually(lambda: queued() and _told(service, "INFO", WORKS_AGAIN), 60)
    assert _told(service, "ERROR", FAILED) == 1


@pytest.mark.slow
def test_a_frozen_redis_is_soon_left_in_peace(start: Start, valkey: LocalValkey) -> None:
    service = start(valkey.url)
    recorder = service.recorder()
    _upload_until_queued(service, recorder)
    before = _client(valkey).info("stats")["total_connections_received"]
    with valkey.frozen():
        started = time.monotonic()
        chunks = [b"chunk %d" % number for number in range(60)]
        waits = [service.upload(recorder, data).elapsed.total_seconds() for data in chunks]
        seconds = time.monotonic() - started
    assert statistics.median(waits) < 1
    assert max(waits) < 5
    assert _told(service, "ERROR", FAILED) == 1
    # Three failures, and one try in each five seconds; this question came over a connection too.
    after = _client(valkey).info("stats")["total_connections_received"]
    assert after - before <= 3 + seconds / 5 + 1 + 1
    assert _count(service, "UPLOADED") == len(chunks)


@pytest.mark.slow
def test_a_frozen_redis_holds_up_nobody_of_a_crowd(start: Start, valkey: LocalValkey) -> None:
    service = start(valkey.url)
    recorder = service.recorder()
    _upload_until_queued(service, recorder)
    with valkey.frozen():
        answers = service.upload_at_once(recorder, [b"chunk %d" % n for n in range(100)])
        assert {answer.status_code for answer in answers} == {200}
        assert not any(answer.json()["queued"] for answer in answers)
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_name_that_is_looked_up_for_ever_holds_up_nobody(start: Start, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "-k support.slow_lookup_worker.SlowLookupWorker")
    service = start("redis://slow.invalid:6379/0")
    recorder = service.recorder()
    for number in range(10):
        response = service.upload(recorder, b"chunk %d" % number)
        assert (response.status_code, response.json()["queued"]) == (200, False)
        assert response.elapsed.total_seconds() < 5
    assert "no answer within" in service.log_path.read_text()
    started = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - started < 5


def test_a_full_redis_fails_no_upload(start: Start, valkey: LocalValkey) -> None:
    service = start(valkey.url)
    recorder = service.recorder()
    _client(valkey).config_set("maxmemory", 1)
    assert _upload(service, recorder)["queued"] is False
    assert _told(service, "ERROR", "maxmemory") == 1
    _client(valkey).config_set("maxmemory", 0)
    _upload_until_queued(service, recorder)


def test_a_key_of_another_program_is_told(start: Start, valkey: LocalValkey) -> None:
    service = start(valkey.url)
    _client(valkey).set(STREAM, "another program's")
    assert _upload(service, service.recorder())["queued"] is False
    assert _told(service, "ERROR", f"another program uses the key {STREAM}. Rename it") == 1
    assert _client(valkey).get(STREAM) == "another program's"


@pytest.fixture(scope="module")
def locked_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalValkey]:
    """One with a password."""
    settings = {"requirepass": "another-word"}
    with LocalValkey(tmp_path_factory.mktemp("locked"), settings=settings) as valkey:
        yield valkey


NOT_FOR_US = (
    "redis://:secret-word@127.0.0.1:{port}/0",
    "redis://somebody:secret-word@127.0.0.1:{port}/0",
    "redis://127.0.0.1:{port}/0?password=secret-word",
    "redis://127.0.0.1:{port}/0",
    "redis://:secret-word@no-such-host.invalid:6379/0",
    "redis://:secret-word@127.0.0.1:1/0",
    "redis://:secret-word@127.0.0.1:{port}/0?unknown=secret-word",
    "rediss://:secret-word@127.0.0.1:{port}/0",
    "unix://:secret-word@/no/such/socket",
)


@pytest.mark.parametrize("url", NOT_FOR_US)
def test_why_a_redis_is_not_for_us_is_told_without_the_password(
    locked_valkey: LocalValkey, url: str
) -> None:
    settings = Settings.from_environ({"REDIS_URL": url.format(port=locked_valkey.port)})
    with pytest.raises(StreamError) as refusal:
        connect(settings, seconds=1.0)
    assert str(refusal.value)
    assert "secret-word" not in str(refusal.value)


@pytest.mark.parametrize("url", NOT_FOR_US[:1])
def test_a_redis_that_is_not_for_us_is_told_without_the_password(
    start: Start, locked_valkey: LocalValkey, url: str
) -> None:
    service = start(url.format(port=locked_valkey.port))
    assert _told(service, "ERROR", "starting without Redis") == 1
    assert _upload(service, service.recorder())["queued"] is False
    assert _told(service, "ERROR", FAILED) == 1
    assert "secret-word" not in service.log_path.read_text()


def test_a_server_that_quotes_the_password_does_not_get_it_into_the_log(start: Start) -> None:
    """As Redis did with what it did not know."""
    with _quoting_server() as port:
        service = start(f"redis://:secret%20word@127.0.0.1:{port}/0")
        assert _upload(service, service.recorder())["queued"] is False
    log = service.log_path.read_text()
    assert "with args beginning with" in log
    assert "secret word" not in log
    assert "***" in log


@contextmanager
def _quoting_server() -> Iterator[int]:
    program = (
        "import socketserver\n"
        "class Quote(socketserver.BaseRequestHandler):\n"
        "    def handle(self):\n"
        "        while data := self.request.recv(4096):\n"
        "            quoted = b' '.join(data.split(b'\\r\\n'))\n"
        "            self.request.sendall(b'-ERR unknown command, with args beginning with: '"
        " + quoted + b'\\r\\n')\n"
        "socketserver.ThreadingTCPServer.daemon_threads = True\n"
        "server = socketserver.ThreadingTCPServer(('127.0.0.1', 0), Quote)\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


def test_the_right_password_works(start: Start, start_valkey: Callable[..., LocalValkey]) -> None:
    valkey = start_valkey({"requirepass": "right-word"})
    service = start(valkey.url)
    _upload_until_queued(service, service.recorder())
    assert "right-word" not in service.log_path.read_text()


@pytest.mark.parametrize(
    "url",
    [
        *("redis://:pa/secret@host:6379/0", "redis://:pa#secret@host:6379/0"),
        *("redis://:pa?secret@host:6379/0", "redis://user:12/secret@host", "redis://h:0/0"),
        *("redis://host:6379/secret", "redis://host:secret/0", "redis://", "http://host"),
        *("unix://", "redis://host:99999", "redis://a b:6379"),
    ],
)
def test_a_url_that_would_be_misread_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL: must be a URL like") as refusal:
        Settings.from_environ({"REDIS_URL": url})
    assert "secret" not in str(refusal.value)


def test_the_extra_is_asked_for(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from flask.cli import main; sys.argv = ['flask', 'ingest', 'relay', '--once']; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environ(QUEUE_BACKEND="redis"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "pip install 'ingest-api[redis]'" in result.stderr
    assert "Traceback" not in result.stderr


# Under load


def _keep_uploading(service: Service, recorder: Recorder, done: threading.Event) -> list[float]:
    waits, name = [], str(threading.get_ident())
    with requests.Session() as session:
        while not done.is_set():
            data = f"{name} {len(waits)}".encode()
            response = service.upload(recorder, data, session=session)
            assert response.status_code == 200, response.text
            waits.append(response.elapsed.total_seconds())
    return waits


@pytest.mark.slow
def test_killed_under_load_no_upload_fails(start: Start, valkey: LocalValkey) -> None:
    service = start(valkey.url, WORKERS="2")
    recorder = service.recorder()
    done = threading.Event()
    with ThreadPoolExecutor(8) as agents:
        uploads = [agents.submit(_keep_uploading, service, recorder, done) for _ in range(8)]
        try:
            eventually(lambda: len(_entries(valkey)) > 100)
            valkey.kill()
            eventually(lambda: _told(service, "ERROR", FAILED) >= 2)
            eventually(lambda: _count(service, "UPLOADED") > 100)
            valkey.start()
            eventually(lambda: _told(service, "INFO", WORKS_AGAIN) >= 2, 120)
        finally:
            done.set()
        waits = [seconds for upload in uploads for seconds in upload.result()]
    # What Redis had, and lost, is the relay's business: see test_relay.py.
    assert len(service.rows(recorder)) == len(waits)
    print(f"{len(waits)} uploads, the longest {max(waits):.3f} s")
    assert max(waits) < 5


def _count(service: Service, status: str) -> int:
    with service.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM audio_chunks WHERE status = %s", [status]
        ).fetchone()
        return int(row[0])


# Figures


@pytest.mark.slow
def test_latency_that_redis_adds_to_an_upload(
    start: Start, start_valkey: Callable[..., LocalValkey]
) -> None:
    """Interleaved: one upload to each service in turn, each over a connection it keeps."""
    healthy, killed, frozen = start_valkey(), start_valkey(), start_valkey()
    services = {
        "postgres": start(NOWHERE, QUEUE_BACKEND="postgres"),
        "redis": start(healthy.url),
        "redis killed": start(killed.url),
        "redis frozen": start(frozen.url),
    }
    recorders = {name: service.recorder() for name, service in services.items()}
    waits: dict[str, list[float]] = {name: [] for name in services}

    def upload_everywhere(number: int) -> None:
        for name, service in services.items():
            data = SPEECH + b"%d" % number
            response = service.upload(recorders[name], data, session=sessions[name])
            assert response.status_code == 200
            waits[name].append(response.elapsed.total_seconds())

    sessions = {name: requests.Session() for name in services}
    for number in range(10):
        upload_everywhere(number)
    for measured in waits.values():
        measured.clear()
    killed.kill()
    with frozen.frozen():
        for number in range(10, 110):
            upload_everywhere(number)
    for name, measured in waits.items():
        median, p99 = statistics.median(measured), statistics.quantiles(measured, n=100)[98]
        print(
            f"{name:14} {len(measured)} uploads: median {median * 1000:5.1f} ms, "
            f"99 % {p99 * 1000:5.1f} ms, longest {max(measured) * 1000:6.1f} ms"
        )
        assert median < statistics.median(waits["postgres"]) + 0.1
        assert max(measured) < 10  # which this machine's disk may take at times
