"""Standard error that never blocks: a reader that stalls must not stop uploads."""

import atexit
import io
import logging
import os
import select
import socket
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

BACKLOG_BYTES = 2**20
"""What a process keeps for a reader that has stalled. Lines beyond it are dropped, and counted."""

FLUSH_SECONDS = 2.0
"""How long a process that ends waits for such a reader."""

_log = logging.getLogger(__name__)


def replace_standard_error() -> None:
    """Have everything that Python writes to standard error pass through `PatientStream`."""
    if not isinstance(sys.stderr, PatientStream):
        sys.stderr = PatientStream(sys.stderr.fileno())


class PatientStream(io.TextIOBase):
    """A text stream whose `write` never waits for the reader.

    A write is tried without waiting. What the reader does not take becomes a backlog, which a
    thread writes, so a reader that keeps up costs no thread, and a crash loses none of its lines.
    With a full backlog, lines are dropped until it is written; one line then says how many.
    """

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._write_now = _writer_without_waiting(descriptor)
        self._forget()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.drain, FLUSH_SECONDS)

    def _forget(self) -> None:
        """Begin without a backlog. After a fork it is the parent's, and so are lock and thread."""
        self._lock = threading.RLock()  # a signal handler may write too
        self._backlog: deque[bytes] = deque()
        self._size = self._dropped = 0
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        data = text.encode(errors="backslashreplace")
        with self._lock:
            if not self._backlog:
                data = data[self._write_now(data) :]
            if data:
                self._keep(data)
        return len(text)

    def drain(self, seconds: float) -> None:
        """Wait that long at most until the backlog is written."""
        if self._thread:
            self._thread.join(seconds)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def _keep(self, data: bytes) -> None:
        if self._dropped or self._size + len(data) > BACKLOG_BYTES:
            self._dropped += data.count(b"\n")
            return
        self._backlog.append(data)
        self._size += len(data)
        if self._thread is None:
            thread = threading.Thread(target=self._write_backlog, name="stderr", daemon=True)
            with suppress(RuntimeError):  # no more threads: the next write tries again
                thread.start()
                self._thread = thread

    def _write_backlog(self) -> None:
        """Write until nothing is left, waiting for the reader. Say what was dropped meanwhile."""
        while True:
            while data := self._next():
                self._wait_and_write(data)
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                _log.error("%d log lines dropped: the reader of standard error stalled", dropped)
            with self._lock:
                if not self._backlog:
                    self._thread = None
                    return

    def _next(self) -> bytes:
        """Return what to write next. It stays in the backlog, so that no other write overtakes."""
        with self._lock:
            return self._backlog[0] if self._backlog else b""

    def _wait_and_write(self, data: bytes) -> None:
        try:
            written = os.write(self._descriptor, data[: select.PIPE_BUF])
        except BlockingIOError:  # others have made it non-blocking
            select.select([], [self._descriptor], [])
            return
        except OSError:  # the reader has gone: nobody misses it
            written = len(data)
        with self._lock:
            self._size -= written
            if data[written:]:
                self._backlog[0] = data[written:]
            else:
                self._backlog.popleft()


def _writer_without_waiting(descriptor: int) -> Callable[[bytes], int]:
    """Return a function that writes what can be written at once, and returns how much that was.

    O_NONBLOCK is not set on the descriptor: it would hold for all processes that share it.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return lambda data: os.write(descriptor, data)
    if stat.S_ISSOCK(mode):  # the journal
        connection = socket.socket(fileno=os.dup(descriptor))
        return _or_none(lambda data: connection.send(data, socket.MSG_DONTWAIT))
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        own = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:  # another user's pipe: everything goes through the thread
        return lambda _data: 0
    return _or_none(lambda data: os.write(own, data))


def _or_none(write: Callable[[bytes], int]) -> Callable[[bytes], int]:
    def write_or_none(data: bytes) -> int:
        with suppress(BlockingIOError):
            return write(data)
        return 0

    return write_or_none
