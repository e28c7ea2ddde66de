"""Reads the beginning of a request's body as it arrives. gunicorn's own read waits until it has as
many bytes as were asked for."""

from typing import Any

from gunicorn.http.body import Body, LengthReader


def read_arrived(body: Any, size: int) -> bytes:
    """Return up to `size` bytes of a body, b"" at its end; wait only while there are none.

    For its beginning only: gunicorn's own read may keep bytes that this does not see.
    """
    if not _is_gunicorns(body):
        return bytes(body.read(size))
    has_length = isinstance(body.reader, LengthReader)
    try:
        return _read_length(body.reader, size) if has_length else _read_chunks(body.reader, size)
    except Exception:
        body.failed = True  # so that gunicorn closes the connection
        raise


def _is_gunicorns(body: object) -> bool:
    """Return whether a body is gunicorn's: another server's may wait, or not."""
    return isinstance(body, Body)


def _read_length(reader: Any, size: int) -> bytes:
    """Read a body that has a Content-Length."""
    most = min(size, reader.length)
    if not most:
        return b""
    data: bytes = reader.unreader.read(None, read_ahead=most)
    if len(data) > most:  # it came with the head, and the next request may have come too
        reader.unreader.unread(data[most:])
        data = data[:most]
    reader.length -= len(data)
    return data


def _read_chunks(reader: Any, size: int) -> bytes:
    """Read a body with chunked coding. The reader keeps what it has decoded."""
    data: bytes = reader.read(1)
    data += reader.read(min(size - 1, reader.buf.tell()))
    return data
