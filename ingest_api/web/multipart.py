"""Parses the form of an upload as it arrives: werkzeug's decoder yields events, this module decides
where their data goes and enforces the limits. Knows nothing of the fields' meaning.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from werkzeug.datastructures import Headers, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
    NeedData,
    State,
)

from ingest_api.errors import BadRequest, ValidationFailed

CHUNK_FILE = "chunk_file"
READ_BYTES = 64 * 1024
"""Bytes per read. A connection holds several such pieces: 0.5 MiB in all. Four times as much would
need 1.3 MiB and is no faster."""

FORM_BYTES = 1024 * 1024
"""The most that the fields may hold together. It also limits the decoder's buffer, which has up to
twice READ_BYTES of the file as well: keep it well above that."""

HEAD_BYTES = 16 * 1024
FORM_PARTS = 100

USUAL_HEAD_BYTES = 200
HEADS_KEPT = 100
"""How large the head of a part may be to be kept parsed, and how many are: agents send the same
ones with each upload, and to parse a form's costs a tenth of its processor time."""


class FormReader:
    """Reads the form of an upload in two steps: the fields that precede the recording, the rest.

    The part `chunk_file` goes to `write`, piece by piece. `read` takes the most bytes to return,
    and returns b"" at the end; `read_early` returns what has arrived. Both steps raise BadRequest,
    ValidationFailed, and errors of these functions.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        boundary: str,
        write: Callable[[bytes], object],
        *,
        read_early: Callable[[], bytes],
    ) -> None:
        self._read, self._read_early = read, read_early
        self._decoder = _Decoder(boundary.encode())
        self._form = _Form(write)
        self._events = self._arriving()

    def read_fields(self) -> "MultiDict[str, str]":
        """Read up to the first byte of `chunk_file`; return the fields that precede it."""
        self._take(to_file=True)
        return MultiDict(self._form.fields)

    def read_rest(self) -> "MultiDict[str, str]":
        """Read on to the end of the body; return all fields."""
        self._take(to_file=False)
        self._form.require_file()
        return MultiDict(self._form.fields)

    def _take(self, *, to_file: bool) -> None:
        try:
            for event in self._events:
                self._form.take(event)
                if to_file and self._form.has_file:
                    break
        except RequestEntityTooLarge:
            raise BadRequest(
                f"The form has more than {FORM_PARTS} parts, or its fields or the head of a part "
                "are too large"
            ) from None
        except ValueError:
            raise BadRequest("The body is not well-formed multipart/form-data") from None

    def _arriving(self) -> Iterator[Event]:
        """Yield the form's events as its bytes arrive. What the first bytes have of the recording
        waits for more of it, once: that saves a write."""
        decoder, form = self._decoder, self._form
        decoder.skip_preamble(self._read_early)
        while True:
            waited = form.has_file or decoder.complete
            while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
                yield event
                if form.has_file and not waited:
                    break
            if decoder.complete:
                return
            data = self._read(READ_BYTES) if form.has_file else self._read_early()
            if not data or decoder.state is not State.EPILOGUE:
                decoder.receive_data(data or None)


class _Form:
    """The form as received so far."""

    def __init__(self, write_file: Callable[[bytes], object]) -> None:
        self.fields: list[tuple[str, str]] = []
        self._write_file = write_file
        self.has_file = False  # `chunk_file` has begun
        self._name: str | None = None  # of the current field
        self._value = b""
        self._write: Callable[[bytes], object] = _forget
        self._field_bytes = 0

    def take(self, event: Event) -> None:
        """Receive the next event of the body."""
        if isinstance(event, Data):
            self._write(event.data)
            if not event.more_data and self._name is not None:
                self.fields.append((self._name, self._value.decode(errors="replace")))
        elif isinstance(event, Field):
            self._name, self._value, self._write = event.name, b"", self._keep
        elif isinstance(event, File):
            self._name, self._write = None, self._open(event)

    def require_file(self) -> None:
        if self.has_file:
            return
        if any(name == CHUNK_FILE for name, _ in self.fields):
            raise ValidationFailed(
                f"{CHUNK_FILE} was sent without a filename",
                errors={
                    CHUNK_FILE: [
                        "Its part has no filename: send Content-Disposition: form-data; "
                        f'name="{CHUNK_FILE}"; filename="chunk.ogg" (any name will do).'
                    ]
                },
            )
        raise ValidationFailed(
            f"The file part {CHUNK_FILE} is missing",
            errors={CHUNK_FILE: ["Missing: send it as a part with a filename."]},
        )

    def _keep(self, data: bytes) -> None:
        self._field_bytes += len(data)
        if self._field_bytes > FORM_BYTES:
            raise RequestEntityTooLarge
        self._value += data

    def _open(self, event: File) -> Callable[[bytes], object]:
        """Return the function that takes the data of a file part."""
        if event.name != CHUNK_FILE:
            return _forget
        if self.has_file:
            raise ValidationFailed(
                f"{CHUNK_FILE} was sent more than once",
                errors={CHUNK_FILE: ["Sent more than once."]},
            )
        encoding = event.headers.get("Content-Transfer-Encoding", "binary").lower()
        if encoding not in {"binary", "8bit", "7bit"}:  # RFC 7578, section 4.7
            raise BadRequest("The file must be sent without a transfer encoding")
        self.has_file = True
        return self._write_file


def _forget(data: bytes) -> None:
    """Drop the data of an unknown file."""


class _Decoder(MultipartDecoder):
    """werkzeug's decoder, with delimiters as in RFC 2046: only after CRLF.

    werkzeug also accepts a bare CR or LF before one. It searches every byte of a file for that,
    with a regular expression compiled for each boundary. Searching for the delimiter itself saves a
    third of the processor time of an upload.
    """

    _END = re.compile(rb"--|[ \t]*\r\n")  # follows a delimiter; `--`: the last one
    _BEGUN = re.compile(rb"-?|[ \t]*\r?")  # a beginning of that; the rest has not arrived

    def __init__(self, boundary: bytes) -> None:
        # Its regular expressions are unused; for an empty boundary they are compiled only once.
        super().__init__(b"", max_form_memory_size=FORM_BYTES, max_parts=FORM_PARTS)
        self.boundary = boundary
        self.state = State.PART
        self._delimiter = b"\r\n--" + boundary

    def skip_preamble(self, read: Callable[[], bytes]) -> None:
        """Receive the body up to its first delimiter (RFC 2046, section 5.1.1), and drop what
        precedes that. BadRequest, ValueError."""
        self.receive_data(b"\r\n")  # the first delimiter may open the body
        more = True
        while more:
            if not (data := read()):
                raise BadRequest("The body does not contain the boundary that Content-Type names")
            self.receive_data(data)
            _, done, more = self._parse_data(self.buffer, start=False)
            del self.buffer[:done]
        if self.state is State.EPILOGUE:
            raise ValueError("the form has no parts")

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        """Refuse a large head: parsing a megabyte takes a quarter of a second. A filename, which is
        not used, may have bytes that are not UTF-8."""
        if len(data) > HEAD_BYTES:
            raise RequestEntityTooLarge
        return _usual_headers(bytes(data)) if len(data) <= USUAL_HEAD_BYTES else _headers(data)

    def _parse_data(self, data: bytes | bytearray, *, start: bool) -> tuple[bytes, int, bool]:
        """Return the piece of a part that `data` begins with, the length consumed, and whether more
        of the part follows. `start`: the blank line still precedes it."""
        if start and not data.startswith(b"\r\n"):
            raise ValueError("the head of a part does not end in CRLF")
        begin = 2 if start else 0
        found = data.find(self._delimiter)
        while found >= 0:
            after = found + len(self._delimiter)
            if end := self._END.match(data, after):
                self.state = State.EPILOGUE if end[0] == b"--" else State.PART
                return _copy(data, begin, found), end.end(), False
            if self._BEGUN.fullmatch(data, after):
                break
            found = data.find(self._delimiter, after)
        if found < 0:
            found = data.rfind(b"\r", max(begin, len(data) - len(self._delimiter)))
        done = found if found >= 0 else len(data)
        return _copy(data, begin, done), done, True


_PLAIN = MultipartDecoder(b"")


def _headers(head: bytes | bytearray) -> Headers:
    try:
        return _PLAIN._parse_headers(head)
    except UnicodeDecodeError:
        return _PLAIN._parse_headers(head.decode(errors="replace").encode())


_usual_headers = lru_cache(HEADS_KEPT)(_headers)  # shared: nobody may change what it returns


def _copy(data: bytes | bytearray, begin: int, end: int) -> bytes:
    """Copy a slice once: slicing a bytearray would copy it already."""
    with memoryview(data) as view:
        return bytes(view[begin : max(begin, end)])
