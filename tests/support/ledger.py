"""Was anything lost? What devices were told with status 200, held against the rows and the files.

A `Ledger` collects what devices sent and what they were told. `audit` reads the database and the
disk directly and trusts nothing that the service says. How the uploads came about does not belong
here.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from lab.recorder import Attempt, Recorder
from psycopg.rows import class_row

EXAMPLES = 10
_HOURS = """
    WITH wanted AS (
        SELECT
            device_id, hour,
            bit_or(minutes_between(hour, start_ts, believed_end(start_ts, end_ts))) AS minutes,
            count(*) FILTER (WHERE hour <= start_ts) AS chunks,
            coalesce(sum(file_size_bytes) FILTER (WHERE hour <= start_ts), 0) AS bytes
        FROM audio_chunks, hours_of(start_ts, end_ts) AS hour
        GROUP BY 1, 2
    )
    SELECT device_id, hour, wanted, known
    FROM wanted
    FULL JOIN recorded_hours AS known USING (device_id, hour)
    WHERE (wanted.minutes, wanted.chunks, wanted.bytes)
        IS DISTINCT FROM (known.minutes, known.chunks, known.bytes)
"""
SEEN_LATE = timedelta(minutes=2)
"""How far last_seen_at may lag behind: the clocks of PostgreSQL and the service may differ."""


class Receipt(NamedTuple):
    """What a device was told with status 200, beside what it had sent."""

    device_id: UUID
    start_ts: datetime
    size: int
    chunk_id: str
    stored_path: str


class Row(NamedTuple):
    """What a row of audio_chunks says."""

    chunk_id: UUID
    device_id: UUID
    point_id: UUID
    register_id: UUID
    start_ts: datetime
    sha256: bytes
    file_path: str
    file_size_bytes: int

    @property
    def receipt(self) -> Receipt:
        """The receipt that its device should have."""
        chunk_id, size = str(self.chunk_id), self.file_size_bytes
        return Receipt(self.device_id, self.start_ts, size, chunk_id, self.file_path)

    @property
    def own_path(self) -> str:
        """The path that the design gives to its file."""
        folder = f"audio/{self.point_id}/{self.register_id}"
        start = self.start_ts.astimezone(UTC)
        return f"{folder}/{start:%Y-%m-%d/%H/chunk_%Y%m%d_%H%M%S}_{self.chunk_id}.ogg"


class Ledger:
    """What devices sent and were told. No two chunks may have the same bytes.

    Any thread may write. Behind nginx (`proxied`) an attempt may reach the service twice, if a
    server process dies in between; so even the first one may be answered as a duplicate.
    """

    def __init__(self, *, proxied: bool = False) -> None:
        self._proxied = proxied
        self.chunks = 0  # recorded; each must be acknowledged in the end
        self.sent = 0  # attempts
        self.duplicates = 0  # answers that the chunk was known
        self.failures: Counter[str] = Counter()  # attempts without a 200, by what came of them
        self.receipts: dict[bytes, Receipt] = {}  # by SHA-256
        self.contradictions: list[str] = []  # answers that cannot be true
        self.longest_silence = 0.0  # seconds without any acknowledgement
        self._last_200: float | None = None
        self._answered: dict[UUID, datetime] = {}  # by device: server_time of its last 200
        self._tried: Counter[UUID] = Counter()  # attempts at the chunk that a device has in flight
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """The number of chunks that were recorded and not acknowledged."""
        return self.chunks - len(self.receipts)

    def recorded(self, count: int = 1) -> None:
        """Count chunks that will be sent. While they are pending, they may be stored or not."""
        with self._lock:
            self.chunks += count

    def record(self, recorder: Recorder, attempt: Attempt) -> None:
        """Enter one attempt of a device, which sends one chunk at a time."""
        sha256 = hashlib.sha256(attempt.chunk.data).digest() if attempt.accepted else b""
        with self._lock:
            self.sent += 1
            self._tried[recorder.device_id] += 1
            if attempt.accepted:
                self._acknowledge(sha256, recorder, attempt)
            else:
                self.failures[attempt.outcome] += 1

    def include(self, other: Ledger) -> None:
        """Enter all that another ledger has."""
        with self._lock:
            self.chunks += other.chunks
            self.receipts |= other.receipts
            self.contradictions += other.contradictions
            self._answered |= other._answered

    def as_of(self, receipts: Mapping[bytes, Receipt]) -> Ledger:
        """Return the ledger of the moment at which these were the receipts.

        What was acknowledged later may be stored or not.
        """
        ledger = Ledger()
        ledger.chunks, ledger.receipts = self.chunks, dict(receipts)
        return ledger

    def last_answers(self) -> dict[UUID, datetime]:
        """Return when each device got its last 200, by the service's clock."""
        with self._lock:
            return self._answered.copy()

    def _acknowledge(self, sha256: bytes, recorder: Recorder, attempt: Attempt) -> None:
        now, chunk, answer = time.monotonic(), attempt.chunk, attempt.answer or {}
        self.longest_silence = max(self.longest_silence, now - (self._last_200 or now))
        self._last_200 = now
        size, ids = len(chunk.data), (str(answer.get("chunk_id")), str(answer.get("stored_path")))
        self.receipts[sha256] = Receipt(recorder.device_id, chunk.start_ts, size, *ids)
        only_one = self._tried.pop(recorder.device_id) == 1 and not self._proxied
        self.duplicates += bool(answer.get("duplicate"))
        said = answer.get("sha256"), answer.get("file_size_bytes")
        if said != (sha256.hex(), size) or (only_one and answer.get("duplicate")):
            self.contradictions.append(f"sent {sha256.hex()}, {size} bytes, told {answer}")
        if "server_time" in answer:
            self._answered[recorder.device_id] = datetime.fromisoformat(answer["server_time"])


@dataclass
class Audit:
    """What is wrong, by kind, with examples; and what there is."""

    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    rows: int = 0
    files_without_row: int = 0  # harmless
    temporary_files: int = 0  # harmless

    def add(self, kind: str, example: object) -> None:
        """Count a problem, and keep it if it is one of the first of its kind."""
        self.problems[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(str(example))


def audit(ledger: Ledger, database_url: str, storage: Path) -> Audit:
    """Hash every file and compare every row. The kinds of problems are:

    - `lost`: a receipt without a row; `row differs`: its row says something else
    - `double`: a second row with the bytes of another
    - `file missing`, `other bytes`: a row whose file is not there or not the same
    - `wrong path`: a row whose path is not the one of its chunk
    - `unknown row`: more rows without a receipt than chunks that are pending
    - `contradiction`: an answer that cannot be true
    - `hours differ`: an hour of `recorded_hours` that is not what the rows say
    - `device not seen`: a device whose `last_seen_at` is older than its last 200
    """
    found = Audit()
    _check_rows(found, ledger, database_url, storage)
    for contradiction in ledger.contradictions:
        found.add("contradiction", contradiction)
    _check_devices(found, ledger, database_url)
    for hour in differing_hours(database_url):
        found.add("hours differ", hour)
    files = sum(path.is_file() for path in (storage / "audio").rglob("*"))
    found.files_without_row = max(0, files - found.rows + found.problems["file missing"])
    found.temporary_files = sum(1 for _ in (storage / ".incoming").glob("*"))
    found.problems = +found.problems
    return found


def _check_rows(found: Audit, ledger: Ledger, database_url: str, storage: Path) -> None:
    confirmed: set[bytes] = set()
    differing: dict[bytes, Row] = {}
    unknown: list[Row] = []
    seen: set[bytes] = set()
    for row in _rows(database_url):
        found.rows += 1
        if row.sha256 in seen:
            found.add("double", row)
        seen.add(row.sha256)
        _check_file(found, storage, row)
        receipt = ledger.receipts.get(row.sha256)
        if receipt is None:
            unknown.append(row)
        elif row.receipt == receipt:
            confirmed.add(row.sha256)
        else:
            differing[row.sha256] = row
    for sha256 in ledger.receipts.keys() - confirmed:
        kind = "row differs" if sha256 in differing else "lost"
        found.add(kind, (ledger.receipts[sha256], differing.get(sha256)))
    for row in unknown[ledger.pending :]:
        found.add("unknown row", row)


def _check_file(found: Audit, storage: Path, row: Row) -> None:
    if row.file_path != row.own_path:
        found.add("wrong path", row)
    try:
        with (storage / row.file_path).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest(), file.tell()
    except (FileNotFoundError, NotADirectoryError):
        found.add("file missing", row)
    else:
        if content != (row.sha256, row.file_size_bytes):
            found.add("other bytes", row)


def _check_devices(found: Audit, ledger: Ledger, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        devices = connection.execute("SELECT device_id, last_seen_at FROM devices")
        seen: dict[UUID, datetime | None] = dict(devices.fetchall())
    for device_id, answered in ledger.last_answers().items():
        at = seen.get(device_id)
        if at is None or at < answered - SEEN_LATE:
            found.add("device not seen", f"{device_id}: told {answered}, last seen {at}")


def differing_hours(database_url: str) -> list[Any]:
    """Return the hours of `recorded_hours` that are not what the rows say."""
    with psycopg.connect(database_url) as connection:
        return connection.execute(_HOURS).fetchall()


def _rows(database_url: str) -> Iterator[Row]:
    """Read the rows in portions, through a cursor of the server."""
    query = f"SELECT {', '.join(Row._fields)} FROM audio_chunks"
    with (
        psycopg.connect(database_url) as connection,
        connection.cursor("rows", row_factory=class_row(Row)) as cursor,
    ):
        yield from cursor.execute(query.encode())
