"""Whole lists of chunks as text: CSV (RFC 4180) and JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

from ingest_api.display import printable
from ingest_api.schemas.queue import CHUNK_FIELDS

_FORMULA = "=+-@\t\r"
"""How spreadsheets know a formula. A quote before it makes it text (OWASP, "CSV Injection")."""


_Row = tuple[Any, ...]
_TEXTS = itemgetter(
    *map(CHUNK_FIELDS.index, ("codec", "file_path", "status", "worker", "error_message"))
)


def dump_row(row: _Row) -> dict[str, Any]:
    """Return a chunk of a list as `dump_chunk` shows it."""
    return dict(zip(CHUNK_FIELDS, row, strict=True))


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
        writer.writerows(map(_harmless, page))
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _harmless(row: _Row) -> Iterable[Any]:
    """Return a row whose texts, which others have chosen, are neither formulas nor unprintable."""
    return row if all(map(_is_plain, _TEXTS(row))) else map(_cell, row)


def _is_plain(value: str | None) -> bool:
    return not value or (value[0] not in _FORMULA and value.isprintable())


def _cell(value: Any) -> Any:
    if type(value) is not str or _is_plain(value):
        return value
    text = printable(value)
    return f"'{text}" if value[0] in _FORMULA else text
