"""Answers to what is no request, in the place and the format of the application, and their log."""

import json
import logging
import socket
import uuid
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from ingest_api.errors import RequestTimeout, document

_log = logging.getLogger("ingest_api.access")


def refuse(client: socket.socket, addr: Any, status: HTTPStatus, reason: str) -> None:
    """Answer and log in place of the application."""
    request_id = uuid.uuid4().hex
    peer = addr[0] if isinstance(addr, tuple) else None  # a unix socket is the proxy's
    fields = {"status": status.value, "code": reason, "client": peer}
    _log.info("malformed request", extra=fields | {"request_id": request_id})
    with suppress(OSError):
        client.send(_refusal(status, request_id), socket.MSG_DONTWAIT)


def _refusal(status: HTTPStatus, request_id: str) -> bytes:
    late = status is HTTPStatus.REQUEST_TIMEOUT
    problem = document(
        status,
        status.name.lower(),
        RequestTimeout.message if late else "Malformed HTTP request",
        retryable=late,
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
