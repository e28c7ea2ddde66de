"""Whole lists of chunks as text: CSV (RFC 4180) and JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ingest_api.display import printable
from ingest_api.schemas.queue import CHUNK_FIELDS

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How spreadsheets know a formula. A quote before it makes it text (OWASP, "CSV Injection")."""


_Row = tuple[Any, ...]


def dump_row(row: _Row) -> dict[str, Any]:
    """Return a chunk of a list as `dump_chunk` shows it."""
    return dict(zip(CHUNK_FIELDS, map(_shortened, row), strict=True))


def json_lines(pages: Iterable[list[_Row]]) -> Iterator[str]:
    """Yield a JSON object and a line feed for each chunk."""
    for page in pages:
        yield "".join(json.dumps(dump_row(row)) + "\n" for row in page)


def csv_rows(pages: Iterable[list[_Row]]) -> Iterator[str]:
    """Yield a head and a row for each chunk, in the fields of the JSON. NULL is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(CHUNK_FIELDS)
    for page in pages:
        writer.writerows(map(_cell, row) for row in page)
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _shortened(value: Any) -> Any:
    """Return a time as RFC 3339 has it where it is a whole second."""
    return value[:-8] + "Z" if type(value) is str and value.endswith(".000000Z") else value


def _cell(value: Any) -> Any:
    if type(value) is not str:
        return value
    if value.endswith(".000000Z"):
        return value[:-8] + "Z"
    if not value.isprintable():
        value = printable(value)
    return f"'{value}" if value.startswith(_FORMULA) else value
