"""A socket that does not wait for ever. gunicorn's threaded worker does: a Pi that drops off the
mobile network would hold a thread until the service is restarted."""

import socket
from contextlib import suppress
from time import monotonic
from typing import Any

from gunicorn.http.errors import NoMoreData

RECEIVE_BYTES = 256 * 1024
"""Read at once. gunicorn's 1 MiB, copied as it is cut up, costs each connection several MiB."""

LINGER_SECONDS = 2.0


class RequestTimedOut(NoMoreData, TimeoutError):
    """The peer did not send, or take, the next bytes in time. Outside the application gunicorn
    takes this for a client that has gone, and closes; in it, it is a timeout like any other."""


class PatientSocket(socket.socket):
    """Each read waits `stall` seconds at most, and all reads of a request end at `deadline`
    (monotonic). A write may take as long as the last read had left, or `stall` seconds."""

    stall: float
    deadline: float
    in_head = True  # the request's head is not complete
    timed_out = False  # a read did
    request: Any = None  # the last that was complete, as gunicorn has it

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        patience = min(self.stall, self.deadline - monotonic())
        limit = self.gettimeout()
        if limit is None or limit > patience:
            self.settimeout(max(patience, 0.001))
        try:
            return super().recv(min(bufsize, RECEIVE_BYTES), flags)
        except TimeoutError:
            self.timed_out = True
            raise RequestTimedOut from None

    def sendall(self, data: Any, flags: int = 0) -> None:
        if self.gettimeout() is None:  # nothing was read: the request came with the one before
            self.settimeout(self.stall)
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise RequestTimedOut from None

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Each piece that the peer takes may take `stall` seconds."""
        self.settimeout(self.stall)
        try:
            sent = super().sendfile(file, offset, count)
        except TimeoutError:
            raise RequestTimedOut from None
        if count is not None and sent < count:  # else the next answer would be taken for the rest
            raise OSError(f"the file ended {count - sent} bytes early, while it was sent")
        return sent

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
