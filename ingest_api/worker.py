"""gunicorn's threaded worker, on sockets that do not wait for ever, and telling its own errors the
way the application does."""

import json
import logging
import socket
import uuid
from contextlib import suppress
from http import HTTPStatus
from time import monotonic
from typing import Any, cast

from flask import Flask
from gunicorn.http import errors as http
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import TConn, ThreadWorker

from ingest_api.patient_socket import PatientSocket
from ingest_api.problems import document
from ingest_api.services import EXTENSION
from ingest_api.settings import Settings

_MALFORMED = {
    http.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    http.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    http.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    http.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}
_log = logging.getLogger("ingest_api.access")


class UploadWorker(ThreadWorker):
    """`ThreadWorker` on patient sockets."""

    def load_wsgi(self) -> None:
        super().load_wsgi()
        application = cast(Flask, self.wsgi)
        self.settings: Settings = application.extensions[EXTENSION].settings
        self.log.info("Worker ready (pid: %s)", self.pid)

    def handle(self, conn: TConn) -> Any:
        """One request: its time begins when its first byte can be read."""
        if not isinstance(conn.sock, PatientSocket):
            conn.sock = PatientSocket(fileno=conn.sock.detach())
            conn.sock.stall = self.settings.request_stall_seconds
        conn.sock.deadline = monotonic() + self.settings.request_deadline_seconds
        return super().handle(conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Refuse what is not HTTP, of which the application never hears."""
        if not isinstance(exc, http.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status = _MALFORMED.get(type(exc), HTTPStatus.BAD_REQUEST)
        request_id = uuid.uuid4().hex
        # The name only: the text may quote a header, and so a token.
        fields = {"status": status.value, "code": type(exc).__name__, "client": addr and addr[0]}
        _log.info("malformed request", extra=fields | {"request_id": request_id})
        with suppress(OSError):
            write_nonblock(client, _refusal(status, request_id))


def _refusal(status: HTTPStatus, request_id: str) -> bytes:
    problem = document(
        status,
        status.name.lower(),
        "The request is not HTTP as this server takes it",
        retryable=False,
        request_id=request_id,
    )
    body = json.dumps(problem)
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\n\r\n{body}"
    ).encode()
