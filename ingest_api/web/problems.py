"""Turns exceptions into HTTP answers, here and nowhere else: RFC 9457 problem documents.

No exception's text reaches a client, only the messages in `errors.py`.
"""

import logging
from http import HTTPStatus

from flask import Flask, Response, g, jsonify
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestedRangeNotSatisfiable

from ingest_api.errors import IngestError, UnsupportedEncoding, document

RETRY_AFTER_SECONDS = 5

_log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Answer every error of `app` with a problem document."""
    app.register_error_handler(IngestError, _ingest_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)


def _ingest_error(error: IngestError) -> Response:
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s: %s", error.code, error.cause)
    response = _problem(
        error.status, error.code, error.detail, retryable=error.retryable, errors=error.errors
    )
    if error.status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE}:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, UnsupportedEncoding):  # RFC 9110, section 15.5.16
        response.headers["Accept-Encoding"] = "identity"
    return response


def _http_error(error: HTTPException) -> Response:
    """Answer an error of Flask or werkzeug, such as an unknown path or a wrong method."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    code = status.name.lower()
    response = _problem(status, code, _HTTP_DETAILS.get(status, status.description))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if isinstance(error, RequestedRangeNotSatisfiable):
        response.headers["Content-Range"] = f"bytes */{error.length}"
    return response


_HTTP_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is nothing at this path",
    HTTPStatus.METHOD_NOT_ALLOWED: "This path does not take this method; see Allow",
}


def _unexpected_error(error: Exception) -> Response:
    _log.exception("internal_error", exc_info=error)
    return _problem(
        IngestError.status, IngestError.code, IngestError.message, retryable=IngestError.retryable
    )


def _problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    retryable: bool = False,
    errors: dict[str, list[str]] | None = None,
) -> Response:
    body = document(status, code, detail, retryable=retryable, request_id=g.request_id)
    if errors:
        body["errors"] = errors
    g.error_code = code
    response = jsonify(body)
    response.status_code = status.value
    response.mimetype = "application/problem+json"
    return response
