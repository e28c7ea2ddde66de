"""Makes a backup: a dump of the database, and every file that its rows promise.

The dump and the list of files are of one snapshot. The caller holds the lock of `DiskUpkeep` from
before the snapshot until the files are copied, so no file is removed in between. Files are
immutable, named after their content and shared by all backups: only those that the last backup
lacks are copied.

While a snapshot lasts, vacuum cleans up nothing in the whole database, and the queue slows down. So
the snapshot ends with the dump, before the first file is copied.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from time import monotonic

from psycopg import IsolationLevel

from ingest_api.backups.copy import Copy
from ingest_api.backups.folder import (
    DUMP,
    FILES,
    MISSING,
    ROWS,
    BackupFolder,
    whole_list,
    write_summary,
)
from ingest_api.backups.manifest import (
    format_line,
    parse_line,
    read_lines,
    sha256_of,
    without,
    write_lines,
    write_sorted,
)
from ingest_api.backups.programs import dumping
from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.models.backups import BackupSummary, ListedFile
from ingest_api.models.chunks import ChunkFile
from ingest_api.storage.disk.folders import sync_path
from ingest_api.storage.disk.upkeep import DiskUpkeep


class NewBackup:
    """An unfinished backup in the folder `path`: call `dump`, `count`, `copy`, `finish` in order.

    With `full` no earlier backup is relied upon: every existing file is read and compared.
    """

    def __init__(self, folder: BackupFolder, path: Path, files: DiskUpkeep, *, full: bool) -> None:
        self.chunks = 0  # rows that promise a file
        self.missing = 0
        self._started = monotonic()
        self._taken_at = datetime.now(UTC)
        self._database = {"migration": 0, "postgresql": 0}
        self._copied_files = self._copied_bytes = 0
        self._left_out: tuple[str, ...] = ()
        self._folder = folder
        self._path = path
        self._files = files
        self._known = [] if full else folder.complete()[-1:]
        self._copy = Copy(files, folder.storage, path, thorough=full)

    def dump(self, connection: Connection, database_url: str) -> None:
        """Dump the database and list its files, in one snapshot."""
        applied = queries.server.has_schema_migrations(connection)
        versions = queries.server.list_applied_migrations(connection) if applied else []
        self._database["migration"] = max((row.version for row in versions), default=0)
        self._database["postgresql"] = connection.info.server_version
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            snapshot = queries.backups.export_snapshot(connection)
            self._taken_at = datetime.now(UTC)
            left_out = queries.backups.list_unreadable(connection)
            self._left_out = tuple(relation.pattern() for relation in left_out)
            with dumping(database_url, snapshot, self._path / DUMP, without=left_out):
                rows = queries.backups.stream_chunk_files(connection)
                lines = (format_line(self._listed(row)) for row in rows)
                self.chunks = write_sorted(self._path / ROWS, lines)

    def count(self) -> tuple[int, int]:
        """Return how many files to check and how many bytes to copy."""
        number = size = 0
        copy = Copy(self._files, self._folder.storage, self._path)
        for file in self._unknown(ROWS):
            number += 1
            with suppress(ValueError):
                size += 0 if copy.holds(file) else file.size
        return number, size

    def copy(self, progress: Callable[[int], None]) -> None:
        """Copy the files. Those lost, or unlike their row, are listed in `missing` instead."""
        (self._path / ROWS).rename(self._path / FILES)
        sync_path(self._path)
        faulty = self._path / MISSING
        self.missing = write_lines(faulty, self._copy_all(progress))
        if not self.missing:
            faulty.unlink()
            return
        lines = (line.rpartition(b"\t")[0] for line in read_lines(faulty))
        whole = self._path / "files.whole"
        write_lines(whole, without(read_lines(self._path / FILES), lines))
        whole.replace(self._path / FILES)

    def finish(self) -> tuple[Path, BackupSummary]:
        """Complete the backup, and return its final path and its summary."""
        number = size = 0
        for line in read_lines(self._path / FILES):
            number += 1
            size += parse_line(line).size
        dump = self._path / DUMP
        summary = BackupSummary(
            time=f"{self._taken_at:%Y-%m-%dT%H:%M:%SZ}",
            version=version("ingest-api"),
            **self._database,
            chunks=self.chunks,
            files=number,
            bytes=size,
            new_files=self._copied_files,
            new_bytes=self._copied_bytes,
            missing=self.missing,
            dump_bytes=dump.stat().st_size,
            dump_sha256=sha256_of(dump),
            list_sha256=sha256_of(self._path / FILES),
            seconds=round(monotonic() - self._started, 1),
            left_out=self._left_out,
        )
        write_summary(self._path, summary)
        return self._folder.finish(self._path), summary

    def _listed(self, row: ChunkFile) -> ListedFile:
        return ListedFile(self._files.path_of(row), row.file_size_bytes, row.sha256)

    def _unknown(self, name: str) -> Iterator[ListedFile]:
        known = chain.from_iterable(read_lines(whole_list(path)) for path in self._known)
        return map(parse_line, without(read_lines(self._path / name), known))

    def _copy_all(self, progress: Callable[[int], None]) -> Iterator[bytes]:
        """Copy, and yield the lines of files that could not be copied, with the reason."""
        for outcome in self._copy.all(self._unknown(FILES)):
            progress(1)
            if outcome.copied:
                self._copied_files += 1
                self._copied_bytes += outcome.file.size
            if outcome.fault:
                yield b"%s\t%s" % (format_line(outcome.file), os.fsencode(outcome.fault))
