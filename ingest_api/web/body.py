"""Reads a request's body: strictly, in bounded memory, and once.

Knows nothing of its content: multipart.py parses the form of an upload.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import IO, Any, cast

from flask import Request, Response, request
from werkzeug.exceptions import BadRequest as BadJson
from werkzeug.exceptions import UnsupportedMediaType as UnsupportedJson
from werkzeug.utils import cached_property

from ingest_api.errors import (
    BadRequest,
    IngestError,
    RequestTimeout,
    RequestTooLarge,
    TruncatedBody,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from ingest_api.server.arrivals import read_arrived
from ingest_api.server.patient_socket import LINGER_SECONDS, connection_of
from ingest_api.usecases.incoming import Incoming
from ingest_api.web.multipart import FORM_BYTES, READ_BYTES, FormReader

JSON_BYTES = 64 * 1024
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 15.0
"""How much of a refused body is still read (the body's limit if that is more), and for how long,
because it holds a thread. A client that is still sending then gets the answer instead of a reset
connection. After a receipt it has the time of any upload: its next try would be no shorter."""

FRAMING_BYTES = 128 * 1024
"""How many bytes of chunked framing a body may have beside as many as its data. Each chunk costs
processor time, however small it is."""
EARLY_BYTES = 16 * 1024
"""How much of a body's beginning is read as it arrives, at least: the fields of most forms. Not all
of it: a client could send single bytes, and each read costs processor time."""

_UNQUOTED = re.compile(r"(?i);\s*boundary=([^\s\";]+)")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class BodyStream:
    """The body as it arrives: counted, limited, and never silently short."""

    def __init__(
        self,
        source: IO[bytes],
        *,
        expected: int | None,
        limit: int,
        wire_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self.received = 0
        self.too_large: Callable[[], IngestError] = RequestTooLarge
        self.ended = False
        self.broken = False  # the next request's beginning is unknown
        self._source = source
        self._expected = expected  # Content-Length; None with chunked coding
        self._limit = limit
        self._wire_bytes = wire_bytes  # how many have arrived, the framing included
        self._decoded = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, b"" at the end.

        RequestTimeout, TruncatedBody, BadRequest; `too_large`, by default RequestTooLarge.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_BYTES), b""))
        return self._counted(size)

    def read_early(self) -> bytes:
        """Return some bytes of the body's beginning without waiting for more; b"" at the end. Only
        before any other read."""
        return self._counted(READ_BYTES, early=self._decoded < EARLY_BYTES)

    def _counted(self, size: int, *, early: bool = False) -> bytes:
        if (self._expected or 0) > self._limit:
            raise self.too_large()
        data = self._read(size, early=early)
        self.received += len(data)
        if self.received > self._limit:
            raise self.too_large()
        if not data:
            self.ended = True
            if self._expected is not None and self.received < self._expected:
                raise TruncatedBody
        return data

    def discard(self) -> None:
        """Read and drop the rest, within bounds. A client that has gone is no error here."""
        left = max(DISCARD_BYTES, self._limit)
        with suppress(RequestTimeout, TruncatedBody, BadRequest):
            while not self.ended and left > 0:
                data = self._read(READ_BYTES)
                left -= len(data)
                self.ended = not data

    def _read(self, size: int, *, early: bool = False) -> bytes:
        try:
            data = read_arrived(self._source, size) if early else self._source.read(size)
        except TimeoutError as error:
            self.ended = self.broken = True
            raise RequestTimeout from error
        # gunicorn has a dozen exceptions for a bad chunk or a lost peer, without a common class.
        except Exception as error:
            self.ended = self.broken = True
            raise TruncatedBody from error
        self._decoded += len(data)
        if self._wire_bytes() > 2 * self._decoded + FRAMING_BYTES:
            self.ended = self.broken = True
            raise BadRequest("The chunks of the body are too small: send 1 KiB or more in each")
        return data


class IngestRequest(Request):
    """A request whose body is read strictly: as an upload, or as JSON of up to JSON_BYTES."""

    @cached_property
    def stream(self) -> BodyStream:  # type: ignore[override]
        """Return the body. werkzeug's own stream reports a stall as 400 instead of 408."""
        connection = connection_of(self.environ)
        return BodyStream(
            self.environ["wsgi.input"],
            expected=self.content_length,
            limit=self.max_content_length or JSON_BYTES,
            wire_bytes=lambda: connection.received if connection else 0,
        )

    def discard_body_after(self, response: Response) -> Response:
        """Have the rest of the body discarded after the answer; for `after_request`.

        A client that is answered early may still be sending. The answer comes first, so that it can
        stop.
        """
        connection = connection_of(self.environ)
        waiting = connection is not None and connection.awaits_continue
        if connection and (self.stream.broken or waiting):  # waiting: it may never send the body
            connection.close_after_answer()
        has_body = bool(self.content_length) or "HTTP_TRANSFER_ENCODING" in self.environ
        if has_body and not self.stream.ended:
            refused = response.status_code >= HTTPStatus.BAD_REQUEST
            response.call_on_close(partial(self._discard_body, waiting=waiting, refused=refused))
        return response

    def _discard_body(self, *, waiting: bool, refused: bool) -> None:
        if connection := connection_of(self.environ):
            if waiting and not connection.is_readable(LINGER_SECONDS):
                return
            if refused:
                connection.deadline = min(connection.deadline, monotonic() + DISCARD_SECONDS)
        self.stream.discard()

    def form_reader(self, incoming: Incoming[Any]) -> FormReader:
        """Return a reader of the form that writes the part `chunk_file` to `incoming`.

        FileTooLarge, UnsupportedMediaType, UnsupportedEncoding, BadRequest. While it reads: also
        TruncatedBody, RequestTimeout, ValidationFailed; errors of `Incoming.write`.
        """
        self.require_no_encoding()
        # The same again for parts that a newer agent may send and this version ignores.
        self.max_content_length = 2 * incoming.max_bytes + FORM_BYTES
        if (self.content_length or 0) > self.max_content_length:
            raise incoming.too_large()
        if self.mimetype != "multipart/form-data":
            raise UnsupportedMediaType("An upload must be multipart/form-data")
        self.stream.too_large = incoming.too_large
        boundary, stream = self._boundary(), self.stream
        return FormReader(stream.read, boundary, incoming.write, read_early=stream.read_early)

    def require_no_encoding(self) -> None:
        """Refuse a compressed body by its head. UnsupportedEncoding."""
        if self.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
            raise UnsupportedEncoding

    def _boundary(self) -> str:
        """Return the multipart boundary. BadRequest."""
        unquoted = _UNQUOTED.search(self.headers["Content-Type"])
        if unquoted and not _TOKEN.fullmatch(unquoted[1]):  # RFC 9110, section 5.6.6
            raise BadRequest(
                "The multipart boundary in Content-Type has characters that need quotation marks: "
                'send boundary="..."'
            )
        boundary = self.mimetype_params.get("boundary", "")
        if not _is_boundary(boundary):
            raise BadRequest("The multipart boundary is missing or malformed")
        return boundary


def _is_boundary(text: str) -> bool:
    """Return whether a boundary is legal (RFC 2046, section 5.1.1)."""
    return 1 <= len(text) <= 70 and text.isascii() and text.isprintable()


def current_request() -> IngestRequest:
    """Return flask.request, typed as the class that `create_app` sets."""
    return cast(IngestRequest, request)


def json_body() -> Any:
    """Return the body as JSON. UnsupportedMediaType, UnsupportedEncoding, BadRequest; errors of
    `BodyStream.read`."""
    current_request().require_no_encoding()
    try:
        return request.get_json()
    except UnsupportedJson:
        raise UnsupportedMediaType("The body must be application/json") from None
    except BadJson:
        raise BadRequest("The body is not valid JSON") from None
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply") from None
