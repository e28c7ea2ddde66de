"""Heads of requests that are not complete. They stay in the system's buffers, and their connections
in the poller: strangers who begin requests and never go on hold no thread."""

import socket
from collections.abc import Callable, Iterator
from functools import partial
from selectors import EVENT_READ, BaseSelector
from time import monotonic
from typing import Any, cast

from gunicorn.workers.gthread import TConn

HEAD_SECONDS = 10.0
"""How long a request's head may take in all."""

HERE_SECONDS = 1.0
"""How long a thread waits for the rest of a head that seemed to be here."""

_FIRST_BYTES = 2048
_MOST_BYTES = 32 * 1024
"""A longer head goes to a thread, which refuses it or has the rest within HERE_SECONDS."""

_END = b"\r\n\r\n"
_PEEK_AT_ONCE = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)


def can_wait(conn: TConn) -> bool:
    """Return whether the head can be looked at before it is read. Not within TLS; and a unix socket
    is a proxy's, which sends whole heads."""
    return isinstance(conn.client, tuple) and not conn.cfg.is_ssl


def look(conn: TConn) -> tuple[bool, int]:
    """Return whether a thread can serve, refuse or close the connection without waiting, and how
    many bytes are in the system's buffer, counted up to the longest head."""
    read = cast(Any, conn.parser).unreader.buf.getvalue() if conn.parser else b""
    try:
        found = _peek(conn.sock, _FIRST_BYTES)
        if len(found) == _FIRST_BYTES and not _is_head(read + found):
            found = _peek(conn.sock, _MOST_BYTES)
    except BlockingIOError:
        return _is_head(read), 0
    except OSError:  # it was reset
        return True, 0
    is_over = not found or len(read + found) >= _MOST_BYTES
    return is_over or _is_head(read + found), len(found)


class WaitingHeads:
    """The connections whose heads are not complete, oldest first; `hand_over` takes one when a
    thread has something to do."""

    def __init__(self, poller: BaseSelector, hand_over: Callable[[TConn], None]) -> None:
        self._poller = poller
        self._hand_over = hand_over
        self._seen: dict[TConn, int] = {}

    def add(self, conn: TConn, seen: int, *, seconds: float) -> None:
        """Wait for the rest of a head, of which `seen` bytes are in the system's buffer. `seconds`
        is the same for all."""
        conn.sock.setblocking(False)
        conn.timeout = monotonic() + seconds
        self._await_more(conn, seen)
        self._poller.register(conn.sock, EVENT_READ, partial(self._look_again, conn))

    def cap(self, deadline: float) -> None:
        """Wait no longer than that (monotonic)."""
        for conn in self._seen:
            conn.timeout = min(conn.timeout or deadline, deadline)

    def take_late(self) -> Iterator[TConn]:
        """Yield, and forget, those whose time is over."""
        now = monotonic()
        while (conn := next(iter(self._seen), None)) and (conn.timeout or 0) <= now:
            self._forget(conn)
            yield conn

    def _look_again(self, conn: TConn, _connection: socket.socket) -> None:
        is_ready, seen = look(conn)
        if is_ready or seen == self._seen[conn]:  # the peer has ended its side
            self._forget(conn)
            self._hand_over(conn)
        else:
            self._await_more(conn, seen)

    def _await_more(self, conn: TConn, seen: int) -> None:
        """Have the poller report the connection when it has more bytes than these."""
        self._seen[conn] = seen
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)

    def _forget(self, conn: TConn) -> None:
        self._poller.unregister(conn.sock)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        del self._seen[conn]


def _peek(connection: socket.socket, size: int) -> bytes:
    # Not the method of a PatientSocket, which would wait.
    return socket.socket.recv(connection, size, _PEEK_AT_ONCE)


def _is_head(data: bytes) -> bool:
    """Return whether a whole head is there. Empty lines before it are none of it."""
    return _END in data.lstrip(b"\r\n")
