"""Reading a request's body: strictly, in bounded memory, and once.

werkzeug's form parser moves the bytes; this module decides where they go and what is too much.
Nothing here knows what the fields mean.
"""

from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import IO, Any, cast

from flask import Request, Response, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest as BadJson
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.exceptions import UnsupportedMediaType as UnsupportedJson
from werkzeug.formparser import MultiPartParser
from werkzeug.sansio.multipart import File
from werkzeug.utils import cached_property

from ingest_api.errors import (
    BadRequest,
    RequestTimeout,
    RequestTooLarge,
    TruncatedBody,
    UnsupportedMediaType,
    ValidationFailed,
)
from ingest_api.patient_socket import PatientSocket
from ingest_api.storage import Incoming

CHUNK_FILE = "chunk_file"
READ_BYTES = 256 * 1024
"""Read at a time. werkzeug scans each piece for the boundary and hands on the rest."""

FORM_BYTES = 1024 * 1024
"""What a multipart body may hold beside files. The parser buffers up to one READ_BYTES of file
as well, so this must stay well above it."""

FORM_PARTS = 100
JSON_BYTES = 64 * 1024
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 15.0
"""How much of a refused body is read on, if the limit is not more, so that a client that is still
sending it gets to read the answer instead of a reset connection; and for how long, because it
holds a thread."""


class BodyStream:
    """The body as it arrives: counted, limited, and never silently short."""

    def __init__(self, source: IO[bytes], *, expected: int | None, limit: int) -> None:
        self.received = 0
        self.ended = False
        self.broken = False  # where the next request would begin is not known
        self._source = source
        self._expected = expected  # Content-Length; None with chunked coding
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, b"" at the end. RequestTimeout, TruncatedBody, RequestTooLarge."""
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_BYTES), b""))
        data = self._read(size)
        self.received += len(data)
        if self.received > self._limit:
            raise RequestTooLarge
        if not data:
            self.ended = True
            if self._expected is not None and self.received < self._expected:
                raise TruncatedBody
        return data

    def discard(self) -> None:
        """Read on and forget, within bounds; a client that has gone is no error here."""
        left = max(DISCARD_BYTES, self._limit)
        with suppress(RequestTimeout, TruncatedBody):
            while not self.ended and left > 0:
                data = self._read(READ_BYTES)
                left -= len(data)
                self.ended = not data

    def _read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except TimeoutError as error:
            self.ended = self.broken = True
            raise RequestTimeout from error
        # gunicorn has a dozen exceptions for a bad chunk or a lost peer, of no common class.
        except Exception as error:
            self.ended = self.broken = True
            raise TruncatedBody from error


class _Forgotten:
    """Takes a file part that nobody asked for."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)

    def seek(self, offset: int) -> int:
        return offset


class _UploadParser(MultiPartParser):
    """werkzeug's parser, with the bytes of `chunk_file` going to where they will stay."""

    def __init__(self, incoming: Incoming) -> None:
        super().__init__(
            max_form_memory_size=FORM_BYTES, buffer_size=READ_BYTES, max_form_parts=FORM_PARTS
        )
        self._incoming = incoming
        self._forgotten = _Forgotten()
        self.chunk_files = 0

    @property
    def file_bytes(self) -> int:
        return self._incoming.size + self._forgotten.size

    def start_file_streaming(self, event: File, total_content_length: int | None) -> Any:
        if event.name != CHUNK_FILE:
            return self._forgotten
        self.chunk_files += 1
        if self.chunk_files > 1:
            raise ValidationFailed(
                f"{CHUNK_FILE} was sent more than once",
                errors={CHUNK_FILE: ["Sent more than once."]},
            )
        encoding = event.headers.get("Content-Transfer-Encoding", "binary").lower()
        if encoding not in {"binary", "8bit", "7bit"}:  # RFC 7578, section 4.7
            raise BadRequest("The file must be sent as it is, not in a transfer encoding")
        return self._incoming


class _UploadBody:
    """What the parser reads from, refusing what the parser would take.

    A body whose lines do not end in CRLF: a file that ends in CR would lose it. And more beside
    files than FORM_BYTES: all that is not file is kept in memory.
    """

    def __init__(self, read: Callable[[int], bytes], parser: _UploadParser, opening: bytes) -> None:
        self._read, self._parser, self._opening = read, parser, opening
        self._received = 0

    def read(self, size: int) -> bytes:
        data = self._read(size)
        if not self._received and not data.removeprefix(b"\r\n").startswith(self._opening):
            raise ValueError("the body does not open with its boundary and CRLF")
        self._received += len(data)
        if self._received - self._parser.file_bytes > FORM_BYTES + READ_BYTES:
            raise RequestEntityTooLarge
        return data


class IngestRequest(Request):
    """A request whose body is read strictly: as an upload, or as JSON of up to JSON_BYTES."""

    @cached_property
    def stream(self) -> BodyStream:  # type: ignore[override]
        """Replaces werkzeug's, which makes a bad request of a stall (it should be a 408)."""
        return BodyStream(
            self.environ["wsgi.input"],
            expected=self.content_length,
            limit=self.max_content_length or JSON_BYTES,
        )

    def discard_body_after(self, response: Response) -> Response:
        """A refused client may still be sending. Answer first, so that it can stop; then read
        on. For `after_request`."""
        if self.stream.broken and self._connection:
            self._connection.request.must_close = True  # and say so
        has_body = bool(self.content_length) or "HTTP_TRANSFER_ENCODING" in self.environ
        if has_body and not self.stream.ended:
            response.call_on_close(self._discard_body)
        return response

    @property
    def _connection(self) -> PatientSocket | None:
        """None when another server than ours is serving."""
        connection = self.environ.get("gunicorn.socket")
        return connection if isinstance(connection, PatientSocket) else None

    def _discard_body(self) -> None:
        if connection := self._connection:
            connection.deadline = min(connection.deadline, monotonic() + DISCARD_SECONDS)
        self.stream.discard()

    def receive_chunk(self, incoming: Incoming) -> "MultiDict[str, str]":
        """Write the part `chunk_file` to `incoming` as it arrives; return the form's fields.

        FileTooLarge, UnsupportedMediaType, BadRequest, TruncatedBody, RequestTimeout,
        ValidationFailed, and what `Incoming.write` raises.
        """
        # As much again for parts that a newer agent may send and this version ignores.
        self.max_content_length = 2 * incoming.max_bytes + FORM_BYTES
        if (self.content_length or 0) > self.max_content_length:
            raise incoming.too_large()
        parser = _UploadParser(incoming)
        try:
            form = self._parse(parser)
        except RequestTooLarge:
            raise incoming.too_large() from None
        if not parser.chunk_files:
            raise ValidationFailed(
                f"The file part {CHUNK_FILE} is missing",
                errors={CHUNK_FILE: ["Missing: send it as a part with a filename."]},
            )
        return form

    def _parse(self, parser: _UploadParser) -> "MultiDict[str, str]":
        if self.mimetype != "multipart/form-data":
            raise UnsupportedMediaType("An upload must be multipart/form-data")
        boundary = self.mimetype_params.get("boundary", "")
        if not boundary.isascii() or not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
            raise BadRequest("The multipart boundary is missing or malformed")
        body = _UploadBody(self.stream.read, parser, f"--{boundary}\r\n".encode())
        try:
            form, _ = parser.parse(cast(IO[bytes], body), boundary.encode(), self.content_length)
        except RequestEntityTooLarge:
            raise BadRequest("The form has too many parts, or too much beside the file") from None
        except ValueError:
            raise BadRequest("The body is not well-formed multipart/form-data") from None
        return form


def current_request() -> IngestRequest:
    """flask.request, as the class that `create_app` makes it."""
    return cast(IngestRequest, request)


def json_body() -> Any:
    """The body as JSON. UnsupportedMediaType, BadRequest, and what `BodyStream.read` raises."""
    try:
        return request.get_json()
    except UnsupportedJson:
        raise UnsupportedMediaType("The body must be application/json") from None
    except BadJson:
        raise BadRequest("The body is not valid JSON") from None
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply") from None
