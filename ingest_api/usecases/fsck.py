"""Compares the rows with the files, both ways. Memory does not grow with their number.

Uploads and retention may run meanwhile: every suspect is checked again, first the file and then the
row. A row is never written before its file, nor a file removed before its row is marked. Here are
the rows; `strays.py` has the files. Output is the business of `commands/fsck.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import OperatorError, StorageUnavailable
from ingest_api.models.chunks import FIRST_ID, ChunkFile, ChunkStatus
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import RECORDINGS

PAGE = 1000
FEW = 20  # missing files that raise no doubt about the disk


class Kind(StrEnum):
    """A kind of discrepancy."""

    MISSING_FILE = "missing_file"  # a row whose file is gone
    WRONG_SIZE = "wrong_size"  # a file whose length differs from its row's
    WRONG_CHECKSUM = "wrong_checksum"  # a file whose SHA-256 differs from its row's
    UNREADABLE = "unreadable"  # a file or a folder that the disk cannot read
    FOREIGN_PATH = "foreign_path"  # a row whose path is not one for its own file
    FILE_RETURNED = "file_returned"  # a row marked for its missing file, which is back
    STRAY_FILE = "stray_file"  # a file without a row: an upload that never got its 200
    STALE_TEMPORARY = "stale_temporary"  # left by a process that died while writing it


Fault = tuple[Kind, str]
"""A kind and its details, for a row's file."""


@dataclass(frozen=True)
class Discrepancy:
    """A row and a file that disagree, and what was done about it, if anything."""

    kind: Kind
    file_path: str
    chunk_id: UUID | None
    detail: str
    repaired: bool


class TooMuchMissing(OperatorError):
    """So many files are missing that the whole disk probably is."""


def require_disk(connection: Connection, files: DiskUpkeep) -> None:
    """Raise TooMuchMissing if the latest recordings, or even their folder, are missing."""
    if not files.root.is_dir():
        raise TooMuchMissing(f"There is no folder {files.root}", "mount its disk")
    newest = queries.files.list_newest_files(connection)
    rows = [row for row in newest if row.status != ChunkStatus.PRUNED]
    if not rows or any(_is_there(files, row) for row in rows):
        return
    if len(rows) > FEW or not (files.root / RECORDINGS).is_dir():
        raise TooMuchMissing(
            f"None of the latest {len(rows)} recordings is in {files.root}",
            "mount its disk, and check that AUDIO_STORAGE_DIR is the service's own; if the "
            "recordings are really gone, add --force",
        )


def _is_there(files: DiskUpkeep, row: ChunkFile) -> bool:
    try:
        return files.status(files.path_of(row)) is not None
    except StorageUnavailable:
        return False


@dataclass(frozen=True)
class Check:
    """The rows, and whether their files are as they say."""

    connection: Connection
    files: DiskUpkeep
    waiting_status: ChunkStatus  # of an unfinished chunk whose file is back
    checksums: bool = False
    repair: bool = False
    force: bool = False

    def rows(self, progress: Callable[[int], None]) -> Iterator[Discrepancy]:
        """Yield what is wrong with the rows' files; call `progress` with the rows done since.
        TooMuchMissing when repairing without `force`."""
        after = FIRST_ID
        while page := queries.files.list_chunk_files(self.connection, after=after, page=PAGE):
            yield from self._check_page(page)
            after = page[-1].chunk_id
            progress(len(page))

    def _check_page(self, page: list[ChunkFile]) -> Iterator[Discrepancy]:
        suspects = [row for row in page if self._fault(row)]
        # The files again, which an upload may have stored; then the rows, which retention may have
        # marked before it removed the files.
        found = {row.chunk_id: fault for row in suspects if (fault := self._fault(row))}
        rows = queries.files.get_chunk_files(self.connection, list(found)) if found else []
        faults = {row: found[row.chunk_id] for row in rows if row.status != ChunkStatus.PRUNED}
        self._require_plausible(faults, len(page))
        for row, (kind, detail) in faults.items():
            done = self._repair(row, kind) if self.repair else ""
            shown = f"{detail}: {done}" if done else detail
            yield Discrepancy(kind, row.file_path, row.chunk_id, shown, bool(done))

    def _fault(self, row: ChunkFile) -> Fault | None:
        if row.status == ChunkStatus.PRUNED:
            return None
        try:
            return self._compare(row)
        except (OSError, StorageUnavailable) as error:
            return Kind.UNREADABLE, _reason(error)

    def _compare(self, row: ChunkFile) -> Fault | None:
        if self.files.is_foreign(row):
            return Kind.FOREIGN_PATH, f"its file belongs at {self.files.path_of(row)}"
        marked = row.file_missing_since is not None
        status = self.files.status(self.files.path_of(row))
        if status is None:
            found = Kind.MISSING_FILE, f"the row says {row.status}, there is no file"
            return None if marked else found
        if status.size != row.file_size_bytes:
            return Kind.WRONG_SIZE, f"{status.size} bytes, not {row.file_size_bytes}"
        if (self.checksums or marked) and row.sha256 is not None:
            sha256 = self.files.sha256(self.files.path_of(row))
            if sha256 != row.sha256:
                return Kind.WRONG_CHECKSUM, f"SHA-256 {sha256.hex()}, not {row.sha256.hex()}"
        return (Kind.FILE_RETURNED, "marked as missing, its file is back") if marked else None

    def _require_plausible(self, faults: dict[ChunkFile, Fault], rows: int) -> None:
        missing = sum(kind is Kind.MISSING_FILE for kind, _ in faults.values())
        if self.repair and not self.force and missing > FEW and 20 * missing > rows:
            raise TooMuchMissing(
                f"{missing} of {rows} rows in succession have no file, so none was marked",
                "check that every disk is mounted; if the files are really gone, add --force",
            )

    def _repair(self, row: ChunkFile, kind: Kind) -> str:
        """Repair a row's file if possible; return what was done, or an empty string."""
        if kind is Kind.FILE_RETURNED:
            status = self._restore(row)
            return f"{status} again" if status else ""
        if kind is Kind.FOREIGN_PATH:
            path = self.files.path_of(row)
            return "corrected" if queries.files.correct_path(self.connection, row, path) else ""
        return self._give_up(row) if kind is Kind.MISSING_FILE else ""

    def _give_up(self, row: ChunkFile) -> str:
        """Put back the file if it was set aside, or mark the row."""
        if aside := self.files.put_back(row):
            return f"put back from {aside}"
        if not queries.files.mark_file_missing(self.connection, row.chunk_id):
            return ""  # gone, or claimed by a worker: the next run decides
        if self.files.status(self.files.path_of(row)):  # an upload has just stored it
            self._restore(row)
            return ""
        return "marked ERROR"

    def _restore(self, row: ChunkFile) -> str | None:
        return queries.files.restore_chunk(
            self.connection, row.chunk_id, waiting_status=self.waiting_status
        )


def _reason(error: OSError | StorageUnavailable) -> str:
    cause = error.__cause__ if isinstance(error, StorageUnavailable) else error
    return (isinstance(cause, OSError) and cause.strerror) or str(cause)
