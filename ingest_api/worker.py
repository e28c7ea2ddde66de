"""gunicorn's threaded worker, on sockets that do not wait for ever."""

from time import monotonic
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from ingest_api.patient_socket import PatientSocket
from ingest_api.settings import Settings


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
