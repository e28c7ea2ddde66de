"""Compares the rows with the files, both ways. Memory does not grow with their number.

Uploads and retention may go on meanwhile: whatever looks wrong is looked at again, in the order
that makes sure. A row is never written before its file, nor a file removed before its row is
marked. How it is shown is `commands/fsck.py`'s business.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from uuid import UUID

from ingest_api import queries
from ingest_api.database import Connection
from ingest_api.models import ChunkFile
from ingest_api.stored_files import StoredFiles

PAGE = 1000
FILE_MISSING = "file missing"
"""How the `error_message` begins of a row that was given up."""

FIRST_ID = UUID(int=0)
_ID_IN_NAME = re.compile(r"_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.ogg$")


class Kind(StrEnum):
    """What can be wrong, worst first."""

    MISSING_FILE = "missing_file"  # a row whose file is gone
    WRONG_SIZE = "wrong_size"  # a file that is not as long as its row says
    WRONG_CHECKSUM = "wrong_checksum"  # nor holds what it says
    STRAY_FILE = "stray_file"  # a file without a row: an upload that never got its 200
    STALE_TEMPORARY = "stale_temporary"  # what a process that died was writing


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what was done about it, if anything."""

    kind: Kind
    file_path: str
    chunk_id: UUID | None
    detail: str
    repaired: bool


@dataclass(frozen=True)
class Check:
    """One run of fsck.

    `grace`, in seconds, is the age from which a file without a row, or a temporary file, is taken
    for left over. It must be longer than an upload can take.
    """

    connection: Connection
    files: StoredFiles
    grace: float
    checksums: bool = False
    repair: bool = False

    def rows(self, progress: Callable[[int], None]) -> Iterator[Finding]:
        """What is wrong with the rows' files. `progress` is called with the rows done since."""
        after = FIRST_ID
        while page := queries.list_chunk_files(self.connection, after=after, page=PAGE):
            yield from self._check_page(page)
            after = page[-1].chunk_id
            progress(len(page))

    def stray_files(self, progress: Callable[[int], None]) -> Iterator[Finding]:
        """Files that no row names. `progress` is called with the files done since."""
        candidates: list[str] = []
        for page in _pages(self.files.recordings()):
            unnamed = self._not_named_by_id(page)
            candidates += [p for p in unnamed if self.files.is_older_than(p, self.grace)]
            if len(candidates) >= PAGE:
                yield from self._strays(candidates)
                candidates = []
            progress(len(page))
        yield from self._strays(candidates)

    def temporary_files(self) -> Iterator[Finding]:
        """Files that no upload is writing any more."""
        for file_path in self.files.temporary_files():
            if self.files.is_older_than(file_path, self.grace):
                if self.repair:
                    self.files.remove_temporary_file(file_path)
                detail = "left by a process that died" + (": removed" if self.repair else "")
                yield Finding(Kind.STALE_TEMPORARY, file_path, None, detail, self.repair)

    def _check_page(self, page: list[ChunkFile]) -> Iterator[Finding]:
        faults = {row.chunk_id: fault for row in page if (fault := self._fault(row))}
        if not faults:
            return
        # Retention may have removed some since the page was read.
        rows = [
            row
            for row in queries.get_chunk_files(self.connection, list(faults))
            if row.status != "PRUNED"
        ]
        missing = [row.chunk_id for row in rows if faults[row.chunk_id][0] is Kind.MISSING_FILE]
        marked = self._give_up(missing) if self.repair and missing else set()
        for row in rows:
            kind, detail = faults[row.chunk_id]
            done = row.chunk_id in marked
            detail += ": marked ERROR" if done else ""
            yield Finding(kind, row.file_path, row.chunk_id, detail, done)

    def _fault(self, row: ChunkFile) -> tuple[Kind, str] | None:
        if row.status == "PRUNED" or (row.error_message or "").startswith(FILE_MISSING):
            return None
        status = self.files.status(row.file_path)
        if status is None:
            return Kind.MISSING_FILE, f"the row says {row.status}, there is no file"
        if status.st_size != row.file_size_bytes:
            return Kind.WRONG_SIZE, f"{status.st_size} bytes, not {row.file_size_bytes}"
        if self.checksums and row.sha256 is not None:
            found = self.files.sha256(row.file_path)
            if found is not None and found != row.sha256:
                return Kind.WRONG_CHECKSUM, f"SHA-256 {found.hex()}, not {row.sha256.hex()}"
        return None

    def _give_up(self, chunk_ids: list[UUID]) -> set[UUID]:
        message = f"{FILE_MISSING}: found by flask ingest fsck"
        return set(queries.mark_file_missing(self.connection, chunk_ids, error_message=message))

    def _not_named_by_id(self, file_paths: list[str]) -> set[str]:
        """Those that are not the file of the row whose id is in the name."""
        found = filter(None, map(_ID_IN_NAME.search, file_paths))
        rows = queries.get_chunk_files(self.connection, [UUID(match[1]) for match in found])
        return set(file_paths) - {row.file_path for row in rows}

    def _strays(self, candidates: list[str]) -> Iterator[Finding]:
        # The rows of the earlier service may name their files otherwise.
        text = [path for path in candidates if _is_text(path)]
        known = queries.filter_known_paths(self.connection, text) if text else []
        for file_path in sorted(set(candidates) - set(known)):
            if not self.repair:
                yield Finding(Kind.STRAY_FILE, file_path, None, "no row names it", False)
            elif aside := self._set_aside(file_path):
                detail = f"no row names it: moved to {aside}"
                yield Finding(Kind.STRAY_FILE, file_path, None, detail, True)

    def _set_aside(self, file_path: str) -> str | None:
        if not self._not_named_by_id([file_path]):
            return None  # its upload was completed meanwhile
        return self.files.set_aside(file_path, grace=self.grace)


def _pages(file_paths: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(file_paths, PAGE)):
        yield page


def _is_text(file_path: str) -> bool:
    """Whether PostgreSQL could hold it: a name on disk may be any bytes."""
    try:
        file_path.encode()
    except UnicodeEncodeError:
        return False
    return True
