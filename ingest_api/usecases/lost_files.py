"""Files that fsck has set aside: they have no rows, but retention and erasure apply to them too."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from ingest_api.models.retention import Selection
from ingest_api.storage.base import StoredFile
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import LOST_AND_FOUND, named_chunk, place_of_lost
from ingest_api.usecases.adoption import Adoption

LONGEST = timedelta(hours=1)
"""How long such a recording may last: its name has no end, and erasure takes what may overlap."""

_PAGE = 1000
_UNREMEMBERED = datetime(1970, 1, 1, tzinfo=UTC)  # no process remembers the folders there
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LostTotals:
    """How many files, and how large."""

    files: int = 0
    bytes: int = 0
    failed: int = 0  # could not be read or removed; the log names them


class LostFiles:
    """The files in .lost+found that a selection covers; None covers none."""

    def __init__(self, files: DiskUpkeep, selection: Selection | None, adoption: Adoption) -> None:
        self._files = files
        self._selection = selection
        self._adoption = adoption

    def count(self) -> LostTotals:
        sizes = [file.size for file in self._selected()]
        return LostTotals(len(sizes), sum(sizes))

    def remove(self) -> LostTotals:
        """Remove them. The caller holds the lock of `DiskUpkeep`. StorageUnavailable."""
        removed = size = failed = 0
        selected = self._selected()
        while page := list(islice(selected, _PAGE)):
            failures = self._files.remove({file.path: _UNREMEMBERED for file in page})
            for path, reason in failures.items():
                _log.error("not removed: %s: %s", path, reason)
            gone = [file.size for file in page if file.path not in failures]
            removed, size, failed = removed + len(gone), size + sum(gone), failed + len(failures)
        for folder, reason in self._files.unreadable.items():
            if folder.startswith(LOST_AND_FOUND):
                _log.error("not read: %s: %s", folder, reason)
                failed += 1
        return LostTotals(removed, size, failed)

    def _selected(self) -> Iterator[StoredFile]:
        wanted = self._selection
        if wanted is None:
            return
        for file in self._files.list(LOST_AND_FOUND):
            if _is_old_enough(file, wanted) and self._is_wanted(file, wanted):
                yield file

    def _is_wanted(self, file: StoredFile, wanted: Selection) -> bool:
        start, end = wanted.recorded_from, wanted.recorded_until
        if not any((wanted.point_id, wanted.device_id, start, end)):
            return True
        named = named_chunk(place_of_lost(file.path) or "")
        if named is None or wanted.point_id not in {None, named.point_id}:
            return False
        if (start and named.start_ts + LONGEST <= start) or (end and named.start_ts >= end):
            return False
        device_id = wanted.device_id
        return device_id is None or self._adoption.may_be_of(file.path, named, device_id)


def _is_old_enough(file: StoredFile, wanted: Selection) -> bool:
    received_at = datetime.fromtimestamp(file.written_at, UTC)
    return wanted.received_before is None or received_at < wanted.received_before
