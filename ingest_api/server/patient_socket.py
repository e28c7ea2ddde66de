"""A socket with time limits. gunicorn's threaded worker has none: a Pi that drops off the mobile
network would hold a thread until the service is restarted."""

import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from gunicorn.http.errors import NoMoreData

RECEIVE_BYTES = 64 * 1024
"""Bytes per read. gunicorn's 1 MiB, copied as it is cut up, costs each connection several MiB; this
costs half of one."""

LINGER_SECONDS = 2.0

_AT_ONCE = int(socket.MSG_DONTWAIT)  # as an enum it costs each read and write four calls


class RequestTimedOut(NoMoreData, TimeoutError):
    """The peer did not send, or accept, the next bytes in time. Outside the application gunicorn
    takes this for a client that has gone, and closes. The application sees an ordinary timeout."""


class PatientSocket(socket.socket):
    """Each read waits `stall` seconds at most, and all reads of a request end at `deadline`
    (monotonic), also while bytes keep coming. A write may take `stall` seconds.

    Each read or write is first tried without waiting: polling, and letting other threads run
    meanwhile, costs as much as receiving.
    """

    stall: float
    deadline: float
    body_deadline: float  # becomes the deadline when the head is complete
    in_head = True  # the request's head is not complete
    timed_out = False  # a read has timed out
    received = 0  # bytes since this was last reset, the framing included
    awaits_continue = False  # the peer sends its body after 100 Continue, or the final answer
    request: Any = None  # the last complete one, as gunicorn's object

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        size = min(bufsize, RECEIVE_BYTES)
        try:
            while True:
                if monotonic() >= self.deadline:
                    raise RequestTimedOut
                with suppress(BlockingIOError):
                    data = super().recv(size, flags | _AT_ONCE)
                    self.received += len(data)
                    self.awaits_continue = False  # it did not wait
                    return data
                if self.awaits_continue:
                    self.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._wait(select.POLLIN, min(self.stall, self.deadline - monotonic()))
        except TimeoutError:  # our limit, or one that gunicorn has set
            self.timed_out = True
            raise RequestTimedOut from None

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.awaits_continue = False
        end = monotonic() + self.stall
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.send(rest, flags | _AT_ONCE) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, end - monotonic())

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file, each piece within `stall` seconds."""
        self.settimeout(self.stall)
        try:
            sent = super().sendfile(file, offset, count)
        except TimeoutError:
            raise RequestTimedOut from None
        finally:
            self.settimeout(None)
        if count is not None and sent < count:  # the peer would take the next answer for the rest
            raise OSError(f"the file ended {count - sent} bytes early while being sent")
        return sent

    def close_after_answer(self) -> None:
        """Have gunicorn send `Connection: close` with the current answer, and close."""
        self.request.force_close()

    def is_readable(self, seconds: float) -> bool:
        """Return whether data, or the end of the stream, arrives within that time."""
        with suppress(TimeoutError):
            self._wait(select.POLLIN, seconds)
            return True
        return False

    def linger(self) -> None:
        """Shut down our side and wait briefly for the peer's. Closing while bytes are in flight
        resets the connection, and the peer may lose the answer (RFC 9112, section 9.6)."""
        self.deadline = monotonic() + LINGER_SECONDS
        with suppress(OSError):
            self.settimeout(None)
            self.shutdown(socket.SHUT_WR)
            while monotonic() < self.deadline and self.recv(RECEIVE_BYTES):
                pass
        with suppress(OSError):
            self.shutdown(socket.SHUT_RD)  # so that no later close waits

    def _wait(self, event: int, seconds: float) -> None:
        """Wait until the socket is ready for `event`. RequestTimedOut."""
        poll = select.poll()
        poll.register(self, event)
        if not poll.poll(max(0.0, 1000 * seconds)):
            raise RequestTimedOut


def connection_of(environ: Mapping[str, Any]) -> PatientSocket | None:
    """Return the connection of a request from its WSGI environment; None under any other server."""
    connection = environ.get("gunicorn.socket")
    return connection if isinstance(connection, PatientSocket) else None
