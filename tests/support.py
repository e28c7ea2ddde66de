"""What tests need to talk to a real service: start it, upload to it, look at what it stored."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import requests
from local_postgres import die_with_parent
from local_site import free_port
from psycopg.rows import dict_row

from ingest_api.models.chunks import Device
from ingest_api.settings import Settings
from ingest_api.tokens import generate_token
from ingest_api.usecases import devices

SPEECH = (Path(__file__).parent / "data" / "speech-60s.ogg").read_bytes()
ADMIN_TOKEN = "admin-token-of-the-tests"
INTERNAL_TOKEN = "internal-token-of-the-tests"
SETTING_NAMES = {item.name.upper() for item in fields(Settings)}


def clean_environ(**settings: str) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    secrets = {f"{name}_FILE" for name in SETTING_NAMES}
    kept = {k: v for k, v in os.environ.items() if k not in SETTING_NAMES | secrets}
    return kept | settings


def eventually(condition: Any, seconds: float = 10.0) -> Any:
    """Wait until `condition()` is true, and return it; AssertionError when it never is."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.02)
    return result


@dataclass
class Recorder:
    """A registered device, its token, and uploads in its name."""

    device: Device
    token: str
    clock: datetime = field(default_factory=lambda: datetime(2026, 1, 28, 10, tzinfo=UTC))

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def form(self, **changes: Any) -> dict[str, Any]:
        """The fields of an upload; a change to None leaves a field out."""
        form: dict[str, Any] = {
            "point_id": str(self.device.point_id),
            "register_id": str(self.device.register_id),
            "device_id": str(self.device.device_id),
            "start_ts": self.clock.isoformat(),
            "end_ts": (self.clock + timedelta(seconds=60)).isoformat(),
            "codec": "opus",
            "sample_rate": "48000",
            "channels": "1",
        }
        return {name: value for name, value in (form | changes).items() if value is not None}


class Service:
    """A running service: gunicorn on a port of its own."""

    prefix: Sequence[str] = ()  # a command that runs it in other surroundings

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.storage = folder / "audio"
        self.log_path = folder / "service.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {
            "DATABASE_URL": database_url,
            "AUDIO_STORAGE_DIR": str(self.storage),
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "INTERNAL_TOKEN": INTERNAL_TOKEN,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WORKERS": "2",
            "MIN_FREE_BYTES": "1048576",
        } | settings
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> "Service":
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "ingest_api"],
                env=clean_environ(**self.settings),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        if wait:
            eventually(self._is_ready, 20)
        return self

    def _is_ready(self) -> bool:
        """All workers are. (gunicorn forgets a SIGTERM that comes while one is being forked.)"""
        assert self.process and self.process.poll() is None, self.log_path.read_text()
        lines = self.log_path.read_text()
        return lines.count('"Worker ready') >= int(self.settings["WORKERS"])

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(30)

    def workers(self) -> list[int]:
        """The process ids of gunicorn's workers."""
        assert self.process
        return children_of(self.process.pid)

    def log(self) -> list[dict[str, Any]]:
        whole, _, _ = self.log_path.read_text().rpartition("\n")  # a line may be just being written
        return [json.loads(line) for line in whole.splitlines()]

    def recorder(self, **changes: Any) -> Recorder:
        """Register a device straight in the database."""
        token = changes.pop("token", generate_token())
        ids = {name: uuid4() for name in ("device_id", "point_id", "register_id")} | changes
        with self.connect() as connection:
            return Recorder(devices.create_device(connection, token=token, **ids), token)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database_url, autocommit=True)

    def upload(
        self,
        recorder: Recorder,
        data: bytes = SPEECH,
        *,
        filename: str = "chunk_20260128_100000.ogg",
        session: Any = requests,
        headers: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> requests.Response:
        return session.post(
            f"{self.url}/api/v1/chunks",
            data=recorder.form(**changes),
            files={"chunk_file": (filename, data, "audio/ogg")},
            headers=recorder.headers if headers is None else headers,
            timeout=60,
        )

    def upload_at_once(
        self, recorder: Recorder, chunks: Sequence[bytes]
    ) -> list[requests.Response]:
        """Each over a connection of its own, and each answered within 5 s."""
        with ThreadPoolExecutor(len(chunks)) as threads:
            answers = list(threads.map(partial(self.upload, recorder), chunks))
        assert max(answer.elapsed for answer in answers) < timedelta(seconds=5)
        return answers

    def health(self) -> tuple[int, dict[str, Any]]:
        """Its status and its body, told within 3 s."""
        response = requests.get(f"{self.url}/health", timeout=10)
        assert response.elapsed < timedelta(seconds=3)
        return response.status_code, response.json()

    def forget_everything(self) -> None:
        """Remove all chunks and devices, and all that is in the storage."""
        with self.connect() as connection:
            connection.execute("TRUNCATE audio_chunks, devices, pruned_chunks")
        for folder in self.storage.iterdir():
            shutil.rmtree(folder)

    def end_its_connections(self) -> None:
        """Terminate the service's sessions, as an administrator may, and wait till they are gone.
        (A statement sent while its session is ending fails, and the upload gets a 503.)"""
        its_own = "datname = current_database() AND application_name = 'ingest_api'"
        with self.connect() as connection:
            end = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {its_own}"
            eventually(lambda: connection.execute(end).fetchone()[0] == 0)

    def rows(self, recorder: Recorder) -> list[dict[str, Any]]:
        with self.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                "SELECT * FROM audio_chunks WHERE device_id = %s ORDER BY chunk_id",
                [recorder.device.device_id],
            ).fetchall()

    def files(self, recorder: Recorder) -> list[Path]:
        folder = self.storage / "audio" / str(recorder.device.point_id)
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def temporary_files(self) -> list[Path]:
        return list((self.storage / ".incoming").glob("*"))

    def assert_nothing_left(self, recorder: Recorder) -> None:
        """A refused upload leaves no row and no file, and the service goes on serving."""
        assert self.rows(recorder) == []
        assert self.files(recorder) == []
        eventually(lambda: not self.temporary_files())
        assert requests.get(f"{self.url}/health", timeout=5).json()["status"] == "ok"


def assert_problem(
    response: requests.Response, status: int, code: str, phrase: str = ""
) -> dict[str, Any]:
    """The answer is a problem document of the contract's shape."""
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert phrase in problem["detail"]
    assert problem["status"] == status
    assert {"type", "title", "detail", "retryable", "request_id"} <= problem.keys()
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert isinstance(problem["retryable"], bool)
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
    if status in {503, 507}:
        assert int(response.headers["Retry-After"]) > 0
    return problem


CHUNKS = [b"chunk %d" % number for number in range(20)]


def assert_outage(
    service: Service, recorder: Recorder, status: int, code: str, *, broken: str, cause: str
) -> None:
    """While a fault lasts, CHUNKS are refused in time, also all at once; /health says what is
    broken, and the log why; nothing is left lying about."""
    seen = len(service.log())
    with ThreadPoolExecutor(1) as thread:
        health = thread.submit(service.health)
        for answer in service.upload_at_once(recorder, CHUNKS):
            assert assert_problem(answer, status, code)["retryable"] is True
    parts = {part: part != broken for part in ("db", "storage_writable")}
    told_status, told = health.result()
    assert (told_status, told) == (503, told | parts | {"status": "degraded"})
    assert requests.get(f"{service.url}/health/live").status_code == 200
    errors = [line["message"] for line in service.log()[seen:] if line["level"] == "ERROR"]
    assert any(line.startswith(f"{code}: ") and cause in line for line in errors), errors
    assert not service.temporary_files()


def assert_recovery(service: Service, recorder: Recorder) -> None:
    """Once the fault is gone and without a restart, CHUNKS are accepted at the first try: each has
    one row and one file."""
    answers = service.upload_at_once(recorder, CHUNKS)
    assert {answer.status_code for answer in answers} == {200}, service.log_path.read_text()
    paths = sorted(service.storage / answer.json()["stored_path"] for answer in answers)
    assert paths == service.files(recorder)
    assert {row["chunk_id"] for row in service.rows(recorder)} == {
        UUID(answer.json()["chunk_id"]) for answer in answers
    }
    assert service.health()[1]["status"] == "ok"
    assert not service.temporary_files()


def multipart(form: Mapping[str, Any], data: bytes) -> bytes:
    """A multipart body with the boundary XyZ-boundary, to be bent by a test."""
    part = "--XyZ-boundary\r\nContent-Disposition: form-data; name="
    fields = "".join(f'{part}"{name}"\r\n\r\n{value}\r\n' for name, value in form.items())
    file = f'{part}"chunk_file"; filename="c"\r\nContent-Type: audio/ogg\r\n\r\n'
    return f"{fields}{file}".encode() + data + b"\r\n--XyZ-boundary--\r\n"


@contextmanager
def raw_upload(service: Service, recorder: Recorder, *headers: str) -> Iterator[socket.socket]:
    """A connection on which the head of an upload was sent; the body is the test's business."""
    head = [
        "POST /api/v1/chunks HTTP/1.1",
        f"Host: 127.0.0.1:{service.port}",
        f"Authorization: Bearer {recorder.token}",
        "Content-Type: multipart/form-data; boundary=XyZ-boundary",
        *headers,
    ]
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        yield connection


def read_status(connection: socket.socket) -> int:
    """The status of the answer on a raw connection; 0 when the peer closed it without one."""
    data = b""
    while b"\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return 0
        data += piece
    return int(data.split(b" ", 2)[1])


def read_terminal(descriptor: int) -> str:
    """All that a process shows on its terminal, of which this is the other end."""
    shown = b""
    with suppress(OSError):  # the last process that had it open has gone
        while piece := os.read(descriptor, 4096):
            shown += piece
    os.close(descriptor)
    return shown.decode()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants_of(pid: int) -> list[int]:
    found = children_of(pid)
    return found + [grandchild for child in found for grandchild in descendants_of(child)]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def flask_ingest(
    database_url: str,
    *arguments: str,
    stdin: str | None = None,
    cwd: Path | None = None,
    **settings: str,
) -> subprocess.CompletedProcess[str]:
    """Run `flask ingest ...` as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "ingest", *arguments],
        env=clean_environ(DATABASE_URL=database_url, **settings),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
