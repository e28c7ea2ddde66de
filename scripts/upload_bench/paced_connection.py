"""One recorder's kept-alive connection, for a load of ten thousand of them in one thread: it sends
uploads without waiting, the sound never copied, and reads just as much of the answers as it must.

When an upload is due, and what the outcomes add up to, does not belong here.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import socket
from collections import deque
from collections.abc import Callable
from datetime import datetime

from lab.recorder import UPLOAD_PATH, Chunk, Recorder, upload_body, upload_headers

ACCEPTED = "200"
CLOSED = "the service closed the connection"
# Takes a whole upload of a minute in one call, so that the kernel wakes this process less often.
SEND_BUFFER_BYTES = 256 * 1024
READ_BYTES = 64 * 1024
_HOLE = b"<the sound>"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_UNDER_WAY = {errno.EINPROGRESS, errno.EAGAIN}


class DeviceConnection:
    """Uploads of one device, one at a time. What becomes due meanwhile waits."""

    def __init__(
        self,
        recorder: Recorder,
        sound: memoryview,
        poller: Poller,
        report: Callable[[int, str], None],
    ) -> None:
        self._recorder = recorder
        self._sound = sound
        self._poller = poller
        self._report = report  # of each upload: its number and its outcome
        self._socket: socket.socket | None = None
        self._rest: list[memoryview] = []  # not sent yet
        self._answer = b""
        self._number: int | None = None  # of the upload that is under way
        self._waiting: deque[tuple[int, datetime]] = deque()

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def upload(self, number: int, start_ts: datetime) -> None:
        """Send the recording of that minute now, or as soon as the one before is answered."""
        self._waiting.append((number, start_ts))
        if self._number is None:
            self._begin()

    def give_up(self, outcome: str) -> None:
        """What has not been answered by now will not be."""
        waiting, self._waiting = self._waiting, deque()
        if self._number is not None:
            self._finish(outcome, keep=False)
        for number, _ in waiting:
            self._report(number, outcome)

    def on_event(self, mask: int) -> None:
        """The poller says that it can go on."""
        try:
            if mask & select.EPOLLOUT:
                self._send()
            if mask & ~select.EPOLLOUT:
                self._receive()
        except OSError as error:
            self._break(_name(error))

    def _begin(self) -> None:
        self._number, start_ts = self._waiting.popleft()
        self._rest = self._request(start_ts)
        try:
            if self._socket is None:
                self._socket = self._poller.connect(self)
            self._send()
        except OSError as error:
            self._break(_name(error))

    def _request(self, start_ts: datetime) -> list[memoryview]:
        """Head and form as a recorder agent sends them, with the sound that all share."""
        body = upload_body(self._recorder, Chunk(start_ts, _HOLE))
        before, _, after = body.partition(_HOLE)
        length = len(before) + len(self._sound) + len(after)
        fields = upload_headers(self._recorder, length)
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        start = f"POST {UPLOAD_PATH} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode() + before
        return [memoryview(start), self._sound, memoryview(after)]

    def _send(self) -> None:
        """As much as there is room for; the poller tells when there is more."""
        assert self._socket
        had_to_wait = False
        while self._rest and not had_to_wait:
            try:
                self._drop(self._socket.sendmsg(self._rest))
            except BlockingIOError:
                had_to_wait = True
        self._poller.watch(self._socket, sending=bool(self._rest))

    def _drop(self, sent: int) -> None:
        while self._rest and sent >= len(self._rest[0]):
            sent -= len(self._rest.pop(0))
        if sent:
            self._rest[0] = self._rest[0][sent:]

    def _receive(self) -> None:
        assert self._socket
        data = self._socket.recv(READ_BYTES)
        self._answer += data
        if not data:
            self._break(CLOSED)
            return
        head, complete, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if complete and length and len(body) >= int(length[1]):
            # With a body that was not taken, nobody knows where the next request would begin.
            keep = not self._rest and b"connection: close" not in head.lower()
            self._finish(_outcome(head, body), keep=keep)

    def _break(self, outcome: str) -> None:
        """An idle connection may be closed by the server, and that is no failure."""
        if self._number is None:
            self._close()
        else:
            self._finish(outcome, keep=False)

    def _finish(self, outcome: str, *, keep: bool) -> None:
        number, self._number = self._number, None
        self._answer, self._rest = b"", []
        if not keep:
            self._close()
        if number is not None:
            self._report(number, outcome)
        if self._waiting:
            self._begin()

    def _close(self) -> None:
        if self._socket is not None:
            self._poller.forget(self._socket)
            self._socket.close()
            self._socket = None


class Poller:
    """Which connection can go on. Knows the server's address."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._epoll = select.epoll()
        self._connections: dict[int, DeviceConnection] = {}
        self._sending: set[int] = set()
        self.connected = 0  # times

    def connect(self, connection: DeviceConnection) -> socket.socket:
        """A new one, on its way."""
        new = socket.socket()
        new.setblocking(False)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        status = new.connect_ex(self._address)
        if status and status not in _UNDER_WAY:
            new.close()
            raise OSError(status, os.strerror(status))
        self._epoll.register(new.fileno(), select.EPOLLIN)
        self._connections[new.fileno()] = connection
        self.connected += 1
        return new

    def watch(self, connected: socket.socket, *, sending: bool) -> None:
        """Tell when there is something to read, and with `sending` also when there is room."""
        number = connected.fileno()
        if sending != (number in self._sending):
            self._epoll.modify(number, select.EPOLLIN | (select.EPOLLOUT if sending else 0))
            (self._sending.add if sending else self._sending.discard)(number)

    def forget(self, connected: socket.socket) -> None:
        number = connected.fileno()
        self._epoll.unregister(number)
        self._sending.discard(number)
        del self._connections[number]

    def wait(self, seconds: float) -> None:
        """Let those go on that can."""
        for number, mask in self._epoll.poll(max(0.0, seconds)):
            if connection := self._connections.get(number):
                connection.on_event(mask)


def _outcome(head: bytes, body: bytes) -> str:
    """As recorder_agent.Attempt names it: `200`, `503 database_unavailable`."""
    status = head[9:12].decode("ascii", "replace")
    if status == ACCEPTED:
        return ACCEPTED
    try:
        return f"{status} {json.loads(body)['code']}"
    except (ValueError, KeyError, TypeError):
        return status


def _name(error: OSError) -> str:
    return type(error).__name__ if type(error) is not OSError else str(error.strerror)
