"""Answers with a file: whole, a range of it, or as unchanged (RFC 9110, sections 13 and 14). Knows
neither which file it is nor who may read it.

werkzeug's own conditional answers check the range first, and some conditions not at all.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import BinaryIO

from flask import Response, request
from werkzeug.datastructures import ETags
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable
from werkzeug.http import parse_date, parse_range_header, unquote_etag
from werkzeug.wsgi import wrap_file

Range = tuple[int, int]
"""The first byte, and the one after the last."""


def file_response(
    file: BinaryIO, *, size: int, written_at: float, etag: str | None, mimetype: str
) -> Response:
    """Return the answer, which closes the file. A server that can sends it by sendfile(2).

    `written_at` is Unix time. PreconditionFailed, RequestedRangeNotSatisfiable: then the file is
    closed too.
    """
    modified = datetime.fromtimestamp(int(written_at), UTC)
    try:
        unchanged = _is_unchanged(etag, modified)
        part = None if unchanged else _range(size, etag, modified)
    except (PreconditionFailed, RequestedRangeNotSatisfiable):
        file.close()
        raise
    start, end = part or (0, size)
    file.seek(start)
    response = Response(wrap_file(request.environ, file), mimetype=mimetype)
    response.direct_passthrough = True
    response.call_on_close(file.close)
    response.accept_ranges = "bytes"
    response.last_modified = modified
    if etag:
        response.set_etag(etag)
    if unchanged:
        response.status_code = 304
        return response
    response.content_length = end - start
    if part:
        response.status_code = 206
        response.content_range.set(start, end, size)
    return response


def _is_unchanged(etag: str | None, modified: datetime) -> bool:
    """Return whether the client has this version, by section 13.2.2. PreconditionFailed."""
    if "If-Match" in request.headers:
        if not _matches(request.if_match, etag, weak=False):
            raise PreconditionFailed
    elif (date := _date("If-Unmodified-Since")) and modified > date:
        raise PreconditionFailed
    if "If-None-Match" in request.headers:
        return _matches(request.if_none_match, etag, weak=True)
    date = _date("If-Modified-Since")
    return date is not None and modified <= date


def _range(size: int, etag: str | None, modified: datetime) -> Range | None:
    """Return the requested range; None if there is not exactly one, or it must be ignored.
    RequestedRangeNotSatisfiable."""
    if request.method != "GET" or not _is_for_this(etag, modified):
        return None
    wanted = parse_range_header(request.headers.get("Range"), make_inclusive=False)
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    [(start, end)] = wanted.ranges
    if start < 0:  # counted from the end
        start = max(0, size + start)
    end = size if end is None else min(end, size)
    if start >= end:
        raise RequestedRangeNotSatisfiable(size)
    return start, end


def _is_for_this(etag: str | None, modified: datetime) -> bool:
    """Return whether If-Range, if present, names exactly this file (section 13.1.5)."""
    condition = request.headers.get("If-Range")
    if condition is None:
        return True
    if condition.startswith(('"', "W/")):
        named, weak = unquote_etag(condition)
        return not weak and named == etag
    return _date("If-Range") == modified


def _matches(tags: ETags, etag: str | None, *, weak: bool) -> bool:
    if tags.star_tag or etag is None:
        return tags.star_tag
    return tags.contains_weak(etag) if weak else tags.is_strong(etag)


def _date(header: str) -> datetime | None:
    """Return the date in a header, or None: a missing or malformed one is ignored."""
    with suppress(OverflowError):  # years beyond those of datetime
        return parse_date(request.headers.get(header))
    return None
