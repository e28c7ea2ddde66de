"""A recorder agent, behaving as those in the field do: the oldest chunk first, one at a time, over
one kept-alive connection, each sent again until the answer is 200.

Which chunks there are and when, and what the answers add up to, does not belong here: that is for
the tools that make load.

http.client and not requests: many agents share the machine with the service that they try, and an
upload costs them a fifth of the processor time (0.1 ms, measured).
"""

from __future__ import annotations

import hashlib
import json
import select
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import SSLContext
from typing import Any
from uuid import UUID

TIMEOUT_SECONDS = 60.0
UPLOAD_PATH = "/api/v1/chunks"
_BOUNDARY = "8a3c0f6e5d1b4c7f9e2a"


@dataclass(frozen=True)
class Recorder:
    """Who uploads: a registered device and its token."""

    device_id: UUID
    point_id: UUID
    register_id: UUID
    token: str


@dataclass(frozen=True)
class Chunk:
    """A recording in the spool: `sound` may be shared by many, `tail` makes the bytes its own."""

    start_ts: datetime
    sound: bytes
    tail: bytes = b""
    seconds: int = 60
    declared: bool = False  # its SHA-256 is sent before its bytes

    @property
    def data(self) -> bytes:
        return self.sound + self.tail


@dataclass(frozen=True)
class Attempt:
    """One time that a chunk was sent, and what came of it."""

    chunk: Chunk
    status: int = 0  # 0: the connection broke
    answer: dict[str, Any] | None = None  # None: it was no JSON object
    error: Exception | None = None

    @property
    def accepted(self) -> bool:
        return self.status == 200

    @property
    def outcome(self) -> str:
        """In a word or two, for counting: `200`, `503 database_unavailable`, `TimeoutError`."""
        if self.error is not None:
            return type(self.error).__name__
        return f"{self.status} {(self.answer or {}).get('code', '')}".strip()


class RecorderAgent:
    """The uploads of one recorder. Each method is for one thread; `switch_off` is for any."""

    def __init__(
        self,
        recorder: Recorder,
        address: tuple[str, int],
        report: Callable[[Recorder, Attempt], None],
        *,
        pause: float = 1.0,
        tls: SSLContext | None = None,
    ) -> None:
        self.recorder = recorder
        self._report = report  # called after each attempt
        self._pause = pause  # seconds before a chunk is sent again
        self._off = threading.Event()
        self._connection = connect(address, tls)

    def run(self, spool: Iterable[Chunk]) -> None:
        """Deliver every chunk of the spool in its order, or until the agent is switched off."""
        for chunk in spool:
            if not self.deliver(chunk):
                break
        self._connection.close()

    def deliver(self, chunk: Chunk) -> bool:
        """Send until it is accepted; False when the agent was switched off before."""
        while not self._off.is_set():
            attempt = self.attempt(chunk)
            self._report(self.recorder, attempt)
            if attempt.accepted:
                return True
            self._off.wait(self._pause_after(attempt))
        return False

    def switch_off(self) -> None:
        """Send nothing more; an attempt that is under way goes on."""
        self._off.set()

    def attempt(self, chunk: Chunk) -> Attempt:
        """Send once, whatever the network or the server does."""
        try:
            status, body = self._exchange(upload_body(self.recorder, chunk))
        except (OSError, HTTPException) as error:
            self._connection.close()
            return Attempt(chunk, error=error)
        return Attempt(chunk, status, _json_object(body))

    def _pause_after(self, attempt: Attempt) -> float:
        return self._pause

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        self._send(body, len(body))
        response = self._connection.getresponse()
        return response.status, response.read()

    def _send(self, body: bytes | Iterable[bytes], content_length: int) -> None:
        if self._is_stale():
            self._connection.close()  # http.client opens a new one
        headers = upload_headers(self.recorder, content_length)
        self._connection.request("POST", UPLOAD_PATH, body, headers)

    def _is_stale(self) -> bool:
        """The server has closed the kept-alive connection: HTTP libraries look before they use one
        again. (A server says nothing unasked, so what can be read is the end.)"""
        if self._connection.sock is None:
            return False
        poll = select.poll()
        poll.register(self._connection.sock, select.POLLIN)
        return bool(poll.poll(0))


def connect(
    address: tuple[str, int],
    tls: SSLContext | None = None,
    timeout: float = TIMEOUT_SECONDS,
    source: str = "",
) -> HTTPConnection:
    """A connection that opens with its first request; with `tls` as that context has it: it may
    trust one certificate only. `source`: the address to come from."""
    come_from = (source, 0) if source else None
    if tls is None:
        return HTTPConnection(*address, timeout=timeout, source_address=come_from)
    return HTTPSConnection(*address, timeout=timeout, source_address=come_from, context=tls)


def upload_headers(recorder: Recorder, content_length: int) -> dict[str, str]:
    """Of a request whose body is an `upload_body`."""
    return {
        "Authorization": f"Bearer {recorder.token}",
        "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
        "Content-Length": str(content_length),
    }


def upload_body(recorder: Recorder, chunk: Chunk) -> bytes:
    """The form with which this recorder sends this chunk."""
    end_ts = chunk.start_ts + timedelta(seconds=chunk.seconds)
    fields = {
        "point_id": recorder.point_id,
        "register_id": recorder.register_id,
        "device_id": recorder.device_id,
        "start_ts": chunk.start_ts.isoformat(),
        "end_ts": end_ts.isoformat(),
        "codec": "opus",
        "sample_rate": 48000,
        "channels": 1,
    }
    if chunk.declared:  # before the file: a chunk that is known gets its receipt without its bytes
        fields["sha256"] = hashlib.sha256(chunk.data).hexdigest()
    part = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name="
    form = "".join(f'{part}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    form += f'{part}"chunk_file"; filename="chunk_{chunk.start_ts:%Y%m%d_%H%M%S}.ogg"\r\n'
    form += "Content-Type: audio/ogg\r\n\r\n"
    return b"".join((form.encode(), chunk.sound, chunk.tail, _END))


_END = f"\r\n--{_BOUNDARY}--\r\n".encode()


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
