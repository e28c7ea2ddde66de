"""A socket that does not wait for ever. gunicorn's threaded worker does: a Pi that drops off the
mobile network would hold a thread until the service is restarted."""

import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from gunicorn.http.errors import NoMoreData

RECEIVE_BYTES = 64 * 1024
"""Read at once. gunicorn's 1 MiB, copied as it is cut up, costs each connection several MiB; this
half of one."""

LINGER_SECONDS = 2.0


class RequestTimedOut(NoMoreData, TimeoutError):
    """The peer did not send, or take, the next bytes in time. Outside the application gunicorn
    takes this for a client that has gone, and closes; in it, it is a timeout like any other."""


class PatientSocket(socket.socket):
    """Each read waits `stall` seconds at most, and all reads of a request end at `deadline`
    (monotonic). A write may take `stall` seconds.

    What need not wait is tried first: to ask whether it need, and to let other threads in
    meanwhile, costs as much as to receive.
    """

    stall: float
    deadline: float
    in_head = True  # the request's head is not complete
    timed_out = False  # a read did
    request: Any = None  # the last that was complete, as gunicorn has it

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        size = min(bufsize, RECEIVE_BYTES)
        try:
            while True:
                with suppress(BlockingIOError):
                    return super().recv(size, flags | socket.MSG_DONTWAIT)
                self._wait(select.POLLIN, min(self.stall, self.deadline - monotonic()))
        except TimeoutError:  # ours, or by a limit that gunicorn has set
            self.timed_out = True
            raise RequestTimedOut from None

    def sendall(self, data: Any, flags: int = 0) -> None:
        end = monotonic() + self.stall
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.send(rest, flags | socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, end - monotonic())

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Each piece that the peer takes may take `stall` seconds."""
        self.settimeout(self.stall)
        try:
            sent = super().sendfile(file, offset, count)
        except TimeoutError:
            raise RequestTimedOut from None
        finally:
            self.settimeout(None)
        if count is not None and sent < count:  # else the next answer would be taken for the rest
            raise OSError(f"the file ended {count - sent} bytes early, while it was sent")
        return sent

    def close_after_answer(self) -> None:
        """Have gunicorn say `Connection: close` with the current answer, and do so."""
        self.request.force_close()

    def is_readable(self, seconds: float) -> bool:
        """Whether there is something to read within that time, be it the end."""
        with suppress(TimeoutError):
            self._wait(select.POLLIN, seconds)
            return True
        return False

    def linger(self) -> None:
        """End our side and wait a little for the peer to end its own: a close while bytes are still
        on their way resets the connection, and the peer may lose the answer (RFC 9112, 9.6)."""
        self.deadline = monotonic() + LINGER_SECONDS
        with suppress(OSError):
            self.settimeout(None)
            self.shutdown(socket.SHUT_WR)
            while monotonic() < self.deadline and self.recv(RECEIVE_BYTES):
                pass
        with suppress(OSError):
            self.shutdown(socket.SHUT_RD)  # whoever closes it now need not wait

    def _wait(self, event: int, seconds: float) -> None:
        """Until it can be read, or written. RequestTimedOut."""
        poll = select.poll()
        poll.register(self, event)
        if not poll.poll(max(0.0, 1000 * seconds)):
            raise RequestTimedOut


def connection_of(environ: Mapping[str, Any]) -> PatientSocket | None:
    """Return the connection of a request, by its WSGI environment; None when another server than
    ours is serving it."""
    connection = environ.get("gunicorn.socket")
    return connection if isinstance(connection, PatientSocket) else None
