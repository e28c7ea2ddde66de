"""gunicorn's threaded worker, with an end to its patience.

`gthread` waits for ever for the next byte of a request: a Pi that drops off the mobile network
would hold a thread until the service is restarted.
"""

import socket
from time import monotonic
from typing import Any

from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import TConn, ThreadWorker

from ingest_api.settings import Settings

RECEIVE_BYTES = 256 * 1024
"""Read from a socket at once. gunicorn's 1 MiB, copied as it is cut up, costs each connection
several MiB."""


class RequestTimedOut(NoMoreData, TimeoutError):
    """The next bytes did not come in time. Among the headers gunicorn takes this for a client
    that has gone, and closes; in the body it is a timeout like any other."""


class PatientSocket(socket.socket):
    """Each read waits `stall` seconds at most, and all reads of a request end at `deadline`."""

    stall: float
    deadline: float

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        patience = min(self.stall, self.deadline - monotonic())
        limit = self.gettimeout()
        if limit is None or limit > patience:
            self.settimeout(max(patience, 0.001))
        try:
            return super().recv(min(bufsize, RECEIVE_BYTES), flags)
        except TimeoutError:
            raise RequestTimedOut from None


class UploadWorker(ThreadWorker):
    """`ThreadWorker` on patient sockets."""

    def load_wsgi(self) -> None:
        self.settings = Settings.from_environ()
        super().load_wsgi()
        self.log.info("Worker ready (pid: %s)", self.pid)

    def handle(self, conn: TConn) -> Any:
        """One request: its time begins when its first byte can be read."""
        if not isinstance(conn.sock, PatientSocket):
            conn.sock = PatientSocket(fileno=conn.sock.detach())
            conn.sock.stall = self.settings.request_stall_seconds
        conn.sock.deadline = monotonic() + self.settings.request_deadline_seconds
        return super().handle(conn)
