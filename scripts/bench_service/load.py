"""The load: requests, written down for wrk and sent over kept-alive connections.

Times are left open in a request (strftime(3)), so that wrk has little to do for each one. What the
answers are worth, beyond their status, does not belong here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lab.postgres import die_with_parent
from lab.recorder import UPLOAD_PATH, Chunk, Recorder, upload_body, upload_headers
from lab.service import SiteError

from bench_service.devices import CHUNK_SECONDS, first_start

HERE = Path(__file__).parent
SPEECH = HERE.parents[1] / "tests/data/speech-60s.ogg"
TIMEOUT_SECONDS = 30
THREADS = 2
_TIMESTAMP = "%Y-%m-%dT%H:%M:%S+00:00"
_SAMPLE = datetime(2026, 1, 28, 10, tzinfo=UTC)
_SOUND_MARK = b"the sound is here"


@dataclass(frozen=True)
class Requests:
    """A request is one of `heads`, its two parts with start and end of the recording, then the
    sound, then `tail`."""

    heads: Sequence[tuple[str, str]]
    tail: str = ""
    sound: Path | None = None
    accepted: int = 200


@dataclass(frozen=True)
class Round:
    """What a round of requests came to.

    The times are those of wrk's histogram, which makes up for what was not sent while wrk waited
    for a very long answer.
    """

    accepted: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def require_wrk() -> None:
    """Raise SiteError when the load generator is not installed."""
    if not shutil.which("wrk"):
        raise SiteError("wrk makes the load and is not installed: apt-get install wrk")


class Load:
    """Requests to one server. The numbers of the uploads continue from round to round."""

    def __init__(self, address: tuple[str, int], requests: Requests, file: Path) -> None:
        self._address = address
        self._file = file
        self._next = 0
        write(requests, file)

    def send(self, *, connections: int, seconds: float) -> Round:
        """Send for some whole seconds, as fast as answers come."""
        arguments = self._file, self._next
        found = run_wrk(
            self._address, "upload.lua", *arguments, connections=connections, seconds=seconds
        )
        self._next += found.pop("numbers")
        return Round(**found)


def run_wrk(
    address: tuple[str, int], script: str, *arguments: object, connections: int, seconds: float
) -> dict[str, Any]:
    """Return what the Lua script reports as JSON in its last line."""
    host, port = address
    threads = min(THREADS, connections)
    options = [f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    options += [f"--timeout={TIMEOUT_SECONDS}s", f"-s{HERE / script}"]
    command = ["wrk", *options, f"http://{host}:{port}", "--", *map(str, arguments), str(threads)]
    process = start(command, stdout=subprocess.PIPE)
    try:
        output, _ = process.communicate()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise SiteError(f"wrk failed: {output.decode(errors='replace')[-300:]}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that does not outlive the calling thread; Ctrl-C is not for it."""
    ending = options.pop("ending", signal.SIGKILL)
    environ = os.environ | options.pop("environ", {})
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen[bytes](
        command,
        **options,
        env=environ,
        start_new_session=True,
        preexec_fn=die_with_parent(ending),
    )


def uploads(devices: Iterable[Recorder]) -> Requests:
    """Return the uploads of these devices to the service."""
    heads, tail = [], ""
    for device in devices:
        body = upload_body(device, Chunk(_SAMPLE, _SOUND_MARK, seconds=CHUNK_SECONDS))
        headers = upload_headers(device, len(body) - len(_SOUND_MARK) + SPEECH.stat().st_size)
        form, _, end = body.partition(_SOUND_MARK)
        heads.append(_with_open_times(request("POST", UPLOAD_PATH, headers) + form.decode()))
        tail = end.decode()
    return Requests(heads, tail, SPEECH)


def _with_open_times(head: str) -> tuple[str, str]:
    end = (_SAMPLE + timedelta(seconds=CHUNK_SECONDS)).isoformat()
    first, second = head.replace(_SAMPLE.isoformat(), _TIMESTAMP).split(end)
    return first, _TIMESTAMP + second


def request(method: str, path: str, headers: Mapping[str, str]) -> str:
    """Return the head of a request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"


def write(requests: Requests, file: Path) -> Path:
    """Write requests as a table for Lua, whose ASCII strings are JSON's."""
    heads = ",\n".join(f"{{{json.dumps(a)}, {json.dumps(b)}}}" for a, b in requests.heads)
    sound = json.dumps(str(requests.sound)) if requests.sound else "nil"
    rest = f"tail = {json.dumps(requests.tail)}, sound = {sound}, first = {first_start()}"
    accepted = requests.accepted
    file.write_text(f"return {{{rest}, accepted = {accepted}, heads = {{\n{heads}\n}}}}\n")
    return file
