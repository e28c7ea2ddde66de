"""A file as an answer: whole, a range of it, or that the client has it already (RFC 9110, sections
13 and 14). Which file it is, and who may have it, is not known here.

werkzeug's own conditional answers look at the range first, and at some conditions not at all.
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
"""From the first byte up to, and without, the last."""


def file_response(
    file: BinaryIO, *, size: int, written_at: float, etag: str | None, mimetype: str
) -> Response:
    """The answer, which closes the file. It goes from the disk to the socket by sendfile(2) with a
    server that can. `written_at` is Unix time.

    PreconditionFailed, RequestedRangeNotSatisfiable; then the file is closed too.
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
    """Whether the client has it already. PreconditionFailed. (In the order of section 13.2.2.)"""
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
    """The one range that is asked for; None where there is none, or where it is to be ignored.
    RequestedRangeNotSatisfiable."""
    if request.method != "GET" or not _is_for_this(etag, modified):
        return None
    wanted = parse_range_header(request.headers.get("Range"), make_inclusive=False)
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    [(start, end)] = wanted.ranges
    if start < 0:  # the last so many
        start = max(0, size + start)
    end = size if end is None else min(end, size)
    if start >= end:
        raise RequestedRangeNotSatisfiable(size)
    return start, end


def _is_for_this(etag: str | None, modified: datetime) -> bool:
    """Whether If-Range, if it is there, names exactly this file (section 13.1.5)."""
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
    """None when it is missing, or is no date: then it is ignored."""
    with suppress(OverflowError):  # of years that no calendar has
        return parse_date(request.headers.get(header))
    return None
