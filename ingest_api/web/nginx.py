"""The proxy in front: what is believed of it, and what is left to it.

Whoever comes over the unix socket is the proxy, because nobody else may open it. Over TCP anybody
may come, and no header is believed. The other half is deploy/nginx/ingest-api.conf.
"""

import socket
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import quote

from flask import Flask, Response, request

from ingest_api.server.patient_socket import connection_of

# What the proxy calls its side of it: it sends on from here what X-Accel-Redirect names.
_RECORDINGS = "/_recordings/"
_UNAUTHORIZED = "@unauthorized"

# Of these the service decides alone: nginx would do it once more, and in its own way.
_CONDITIONS = {
    *("Range", "If-Range", "If-Match", "If-None-Match"),
    *("If-Modified-Since", "If-Unmodified-Since"),
}


def client_address() -> str | None:
    """Of whoever sent the request, in front of the proxy too; None where that cannot be told."""
    if not _is_proxied():
        return request.remote_addr
    return _address(request.headers.get("X-Forwarded-For", ""))


def leave_file_to_proxy(response: Response, path: str) -> None:
    """Where the proxy can send a whole file by itself, only tell it which. `path` is relative to
    AUDIO_STORAGE_DIR, and canonical."""
    plain = request.method == "GET" and not any(name in request.headers for name in _CONDITIONS)
    if plain and response.status_code == HTTPStatus.OK and _takes_redirects():
        response.direct_passthrough = False
        response.set_data(b"")
        response.headers["X-Accel-Redirect"] = quote(f"{_RECORDINGS}{path}")


def register(app: Flask) -> None:
    """Have the proxy ask again, later and later, for a token that was refused."""
    app.after_request(_let_refused_wait)


def _let_refused_wait(response: Response) -> Response:
    if response.status_code == HTTPStatus.UNAUTHORIZED and _takes_redirects():
        response.headers["X-Accel-Redirect"] = _UNAUTHORIZED
    return response


def _takes_redirects() -> bool:
    return _is_proxied() and request.headers.get("X-Sendfile-Type") == "X-Accel-Redirect"


def _is_proxied() -> bool:
    connection = connection_of(request.environ)
    return connection is not None and connection.family == socket.AF_UNIX


def _address(text: str) -> str | None:
    """None for what is none: a log line is no place for what anybody may send."""
    try:
        return None if "%" in text else str(ip_address(text))
    except ValueError:
        return None
