"""Whole lists of chunks as text: CSV (RFC 4180) and JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ingest_api.models.chunks import ChunkProgress
from ingest_api.schemas.queue import CHUNK_FIELDS, dump_chunk

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How spreadsheets know a formula. A quote before it makes it text (OWASP, "CSV Injection")."""


def json_lines(pages: Iterable[list[ChunkProgress]]) -> Iterator[str]:
    """Yield a JSON object and a line feed for each chunk."""
    for page in pages:
        yield "".join(json.dumps(dump_chunk(chunk), default=str) + "\n" for chunk in page)


def csv_rows(pages: Iterable[list[ChunkProgress]]) -> Iterator[str]:
    """Yield a head and a row for each chunk, in the fields of the JSON. NULL is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(CHUNK_FIELDS)
    for page in pages:
        writer.writerows(map(_cells, page))
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _cells(chunk: ChunkProgress) -> Iterator[Any]:
    return map(_cell, dump_chunk(chunk).values())


def _cell(value: Any) -> Any:
    if isinstance(value, str) and not value.isprintable():
        value = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
