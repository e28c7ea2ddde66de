"""The verdict on a soak: what the clients were told, held against the rows and the files.

Reads the database and the disk directly and trusts nothing that the service says. How the uploads
came about does not belong here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from soak_load import Acknowledged

EXAMPLES = 20


class Row(NamedTuple):
    """What a row of audio_chunks says."""

    chunk_id: UUID
    device_id: UUID
    start_ts: datetime
    sha256: bytes
    file_path: str
    file_size_bytes: int


@dataclass
class Verdict:
    """Counts. The first group must be 0; the second is harmless."""

    lost: int = 0  # acknowledged, but without a row that says the same, or without its file
    double: int = 0  # rows for a chunk that has a row already
    rows_without_file: int = 0  # or with a file of other bytes
    rows_from_nowhere: int = 0  # that no recorder has sent

    acknowledged: int = 0
    rows: int = 0
    rows_not_acknowledged: int = 0  # the answer never reached its client
    files_without_row: int = 0
    temporary_files: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.lost or self.double or self.rows_without_file or self.rows_from_nowhere)

    def note(self, line: str) -> None:
        """Keep an example of what is wrong."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(line)


def judge(
    database_url: str, storage: Path, acknowledged: Mapping[bytes, Acknowledged], in_hand: int
) -> Verdict:
    """Hash every file and compare every row. `in_hand` chunks were sent but never acknowledged:
    as many rows may be there that no client knows of."""
    verdict = Verdict(acknowledged=len(acknowledged))
    missing = dict(acknowledged)
    seen: set[bytes] = set()  # the bytes of each chunk are unlike all others
    for row in _rows(database_url):
        verdict.rows += 1
        if row.sha256 in seen:
            verdict.double += 1
            verdict.note(f"double: {row}")
        seen.add(row.sha256)
        whole = _check_file(verdict, storage, row)
        if row.sha256 not in acknowledged:
            verdict.rows_not_acknowledged += 1
        elif whole and _says(row, acknowledged[row.sha256]):
            missing.pop(row.sha256, None)
    verdict.lost = len(missing)
    for sha256, receipt in missing.items():
        verdict.note(f"lost: {sha256.hex()} {receipt}")
    verdict.rows_from_nowhere = max(0, verdict.rows_not_acknowledged - in_hand)
    _count_files(verdict, storage)
    return verdict


def _rows(database_url: str) -> Iterator[Row]:
    with (
        psycopg.connect(database_url) as connection,
        # The server's cursor: the rows of a long soak come in portions.
        connection.cursor("rows", row_factory=class_row(Row)) as cursor,
    ):
        yield from cursor.execute(
            "SELECT chunk_id, device_id, start_ts, sha256, file_path, file_size_bytes"
            " FROM audio_chunks"
        )


def _says(row: Row, receipt: Acknowledged) -> bool:
    return receipt == (
        row.device_id,
        row.start_ts,
        row.file_size_bytes,
        str(row.chunk_id),
        row.file_path,
    )


def _check_file(verdict: Verdict, storage: Path, row: Row) -> bool:
    try:
        with (storage / row.file_path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
            size = file.tell()
    except FileNotFoundError:
        found, size = b"", -1
    if (found, size) == (row.sha256, row.file_size_bytes):
        return True
    verdict.rows_without_file += 1
    verdict.note(f"row without its file: {row}; found {size} bytes, SHA-256 {found.hex()}")
    return False


def _count_files(verdict: Verdict, storage: Path) -> None:
    files = sum(path.is_file() for path in (storage / "audio").rglob("*"))
    # (Two rows for one file are told elsewhere.)
    verdict.files_without_row = max(0, files - (verdict.rows - verdict.rows_without_file))
    verdict.temporary_files = sum(1 for _ in (storage / ".incoming").glob("*"))
