"""The proxy in front: when its headers are trusted, and which work is left to it.

A connection over the unix socket is the proxy's, because nobody else may open it. Over TCP anybody
may connect, and no header is trusted. The other half is deploy/nginx/ingest-api.conf.
"""

import socket
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import quote, unquote

from flask import Flask, Response, request

from ingest_api.server.patient_socket import connection_of
from ingest_api.settings import is_loopback

# Locations in the configuration of the proxy, for X-Accel-Redirect.
_RECORDINGS = "/_recordings/"
_UNAUTHORIZED = "@unauthorized"

# Where the proxy asks about a head (auth_request). It allows a request after a 2xx, and refuses it
# after 401 and 403 with the document in the header.
CHECKS = "/_check"
_PROBLEM = "X-Problem"

# The service alone evaluates these: nginx would evaluate them again, in its own way.
_CONDITIONS = {
    *("Range", "If-Range", "If-Match", "If-None-Match"),
    *("If-Modified-Since", "If-Unmodified-Since"),
}

# What proxies add to a request that they pass on.
_TRACES = (
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "Via",
)


def is_from_this_machine() -> bool:
    """Return whether the client is a program of this machine, and no proxy that serves others.

    nginx, unless told otherwise, adds no header but speaks HTTP/1.0. A TCP proxy leaves no trace.
    """
    if any(name in request.headers for name in _TRACES):
        return False
    return request.environ["SERVER_PROTOCOL"] != "HTTP/1.0" and is_loopback(
        request.remote_addr or ""
    )


def client_address() -> str | None:
    """Return the client's address, as the proxy reports it if there is one, or None if unknown."""
    if not _is_proxied():
        return request.remote_addr
    return _address(request.headers.get("X-Forwarded-For", ""))


def requested() -> tuple[str, str]:
    """Return the method and the path of the client's request; for a check, of the one checked."""
    if not is_check():
        return request.method, request.path
    uri = request.headers.get("X-Original-URI", "")
    return request.headers.get("X-Original-Method", ""), unquote(uri.partition("?")[0])


def is_check() -> bool:
    """Return whether the proxy asks only about the head of a request that waits there."""
    return request.path.startswith(f"{CHECKS}/") and _is_proxied()


def leave_file_to_proxy(response: Response, path: str) -> None:
    """Have the proxy send a whole file if it can. `path` is relative to AUDIO_STORAGE_DIR, and
    canonical."""
    plain = request.method == "GET" and not any(name in request.headers for name in _CONDITIONS)
    if plain and response.status_code == HTTPStatus.OK and _takes_redirects():
        response.direct_passthrough = False
        response.set_data(b"")
        response.headers["X-Accel-Redirect"] = quote(f"{_RECORDINGS}{path}")


def register(app: Flask) -> None:
    """Have the proxy refuse what a check refuses, and delay the answers to refused tokens."""
    app.after_request(_let_refused_wait)
    app.after_request(_refuse_checked)


def _refuse_checked(response: Response) -> Response:
    """Put the problem into a header: of the answer to a check, the proxy reads nothing else."""
    if is_check() and response.status_code >= HTTPStatus.BAD_REQUEST:
        response.headers[_PROBLEM] = response.get_data(as_text=True).strip()
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            response.status_code = HTTPStatus.FORBIDDEN
    return response


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
    """Return an IP address; None for other text, because anybody could send it to the log."""
    try:
        return None if "%" in text else str(ip_address(text))
    except ValueError:
        return None
