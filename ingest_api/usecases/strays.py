"""The half of fsck that begins with the files: those without a row, and those left by the dead."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from time import time
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.storage.base import StoredFile
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import (
    ID_IN_NAME,
    INCOMING,
    LOST_AND_FOUND,
    RECORDINGS,
    StoredPath,
    place_of_lost,
)
from ingest_api.usecases.adoption import Adoption, NotAdoptable
from ingest_api.usecases.fsck import PAGE, Discrepancy, Kind


@dataclass(frozen=True)
class Strays:
    """One run.

    `grace`, in seconds, is the age from which a file without a row, or a temporary file, counts as
    left over. It must exceed the duration of any upload.
    """

    connection: Connection
    files: DiskUpkeep
    grace: float
    repair: bool = False
    adoption: Adoption | None = None  # writes the rows of files
    young: list[StoredPath] = field(default_factory=list)  # without a row, but within `grace`

    def stray_files(self, progress: Callable[[int], None]) -> Iterator[Discrepancy]:
        """Yield files that no row names; call `progress` with the files done since."""
        candidates: list[StoredPath] = []
        for page in _pages(self.files.list(RECORDINGS)):
            unknown = self._without_named_by_id([file.path for file in page])
            young = {file.path for file in page if not self._is_old(file)}
            self.young.extend(unknown & young)
            candidates += unknown - young
            if len(candidates) >= PAGE:
                yield from self._strays(candidates)
                candidates = []
            progress(len(page))
        yield from self._strays(candidates)
        yield from self._unreadable(RECORDINGS)

    def lost_files(self) -> Iterator[Discrepancy]:
        """Take back what was set aside and has no row; yield it, and what cannot be taken back."""
        if self.adoption is None:
            return
        for page in _pages(self.files.list(LOST_AND_FOUND)):
            places = {place: file.path for file in page if (place := place_of_lost(file.path))}
            for place in sorted(self._without_named_by_id(list(places))):
                try:
                    chunk_id = self.adoption.adopt(places[place], place)
                except NotAdoptable as error:
                    detail = f"set aside, and it cannot be adopted: {error}"
                    yield Discrepancy(Kind.STRAY_FILE, places[place], None, detail, False)
                    continue
                detail = f"no row named it: adopted, and brought back to {place}"
                yield Discrepancy(Kind.STRAY_FILE, places[place], chunk_id, detail, True)

    def temporary_files(self) -> Iterator[Discrepancy]:
        """Yield, and with `repair` remove, files that no upload is writing any more."""
        for file in filter(self._is_old, self.files.temporary_files()):
            if self.repair:
                self.files.remove_temporary_file(file.path)
            detail = "left by a process that died" + (": removed" if self.repair else "")
            yield Discrepancy(Kind.STALE_TEMPORARY, file.path, None, detail, self.repair)
        yield from self._unreadable(INCOMING)

    def _is_old(self, file: StoredFile) -> bool:
        return time() - file.written_at > self.grace

    def _without_named_by_id(self, file_paths: list[StoredPath]) -> set[StoredPath]:
        """Return the paths that do not belong to the row whose id is in the name."""
        found = filter(None, map(ID_IN_NAME.search, file_paths))
        rows = queries.files.get_chunk_files(self.connection, [UUID(match[1]) for match in found])
        return set(file_paths) - {self.files.path_of(row) for row in rows}

    def _strays(self, candidates: list[StoredPath]) -> Iterator[Discrepancy]:
        # Rows of the earlier service may spell paths differently.
        spellings = [s for path in filter(_is_text, candidates) for s in self.files.spellings(path)]
        known = queries.files.filter_known_paths(self.connection, spellings) if spellings else []
        for file_path in sorted(set(candidates) - {self.files.canonical(path) for path in known}):
            yield from self._stray(file_path)

    def _stray(self, file_path: StoredPath) -> Iterator[Discrepancy]:
        detail = "no row names it"
        if self.adoption:
            try:
                chunk_id = self.adoption.adopt(file_path, file_path)
            except NotAdoptable as error:
                detail += f", and it cannot be adopted: {error}"
            else:
                yield Discrepancy(
                    Kind.STRAY_FILE, file_path, chunk_id, f"{detail}: adopted", repaired=True
                )
                return
        if not self.repair:
            yield Discrepancy(Kind.STRAY_FILE, file_path, None, detail, False)
        elif aside := self._set_aside(file_path):
            yield Discrepancy(Kind.STRAY_FILE, file_path, None, f"{detail}: moved to {aside}", True)

    def _unreadable(self, top: str) -> Iterator[Discrepancy]:
        """Yield what the listing of `top` could not read. A row's own file comes with its row."""
        found = self.files.unreadable
        below = [path for path in found if path == top or path.startswith(f"{top}/")]
        paths = [self.files.canonical(path) for path in below]
        for path in sorted(self._without_named_by_id(paths)):
            yield Discrepancy(Kind.UNREADABLE, path, None, found[path], False)

    def _set_aside(self, file_path: StoredPath) -> str | None:
        if not self._without_named_by_id([file_path]):
            return None  # its upload was completed meanwhile
        return self.files.set_aside(file_path, grace=self.grace)


def _pages(files: Iterator[StoredFile]) -> Iterator[list[StoredFile]]:
    while page := list(islice(files, PAGE)):
        yield page


def _is_text(file_path: str) -> bool:
    """Return whether PostgreSQL could hold a path: a name on disk may be any bytes."""
    return not re.search(r"[\ud800-\udfff]", file_path)
