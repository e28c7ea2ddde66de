"""Restores a backup: its files into AUDIO_STORAGE_DIR, and then the database, all at once.

The database comes last, so that no row ever points at a file that is not there, and an interrupted
restore can be run again. Existing files that are not in the backup are left alone.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ingest_api.backups.archive import read_grants
from ingest_api.backups.copy import TEMPORARY, Copy
from ingest_api.backups.folder import (
    DUMP,
    FILES,
    BackupFolder,
    require_backup,
    sync_disk,
    whole_list,
)
from ingest_api.backups.manifest import BackupError, parse_line, read_lines, sha256_of
from ingest_api.backups.programs import load
from ingest_api.database import migrations, queries
from ingest_api.database.pool import Connection
from ingest_api.failpoints import Failpoint, reached
from ingest_api.models.backups import ListedFile
from ingest_api.models.chunks import FENCE_STEP, ChunkStatus
from ingest_api.models.devices import Device
from ingest_api.storage.disk.folders import FOLDER_MODE
from ingest_api.storage.disk.upkeep import DiskUpkeep
from ingest_api.storage.layout import INCOMING

FIRST_WITH_LEASES = 4
"""The migration that brought attempts and leases."""


class Restore:
    """The restore of one backup: call `count`, `copy`, `load`, in this order. With `checksums`
    existing files are read, and replaced if damaged; copied files are always compared."""

    def __init__(self, backup: Path, files: DiskUpkeep, *, checksums: bool) -> None:
        self.summary = require_backup(backup)
        self.copied_files = self.copied_bytes = 0
        self.left_out: list[str] = []  # of the dump
        self.grants: list[str] = []  # statements that make them again
        self.devices: list[Device] = []
        self._backup = backup
        self._files = files
        self._scratch = files.root / INCOMING
        self._source = BackupFolder(backup.parent).storage
        self._checksums = checksums

    def require_usable(self, connection: Connection) -> None:
        """Raise BackupError if this backup cannot be restored, or not into this database."""
        self.require_known_schema()
        self.require_database(connection)
        self.require_whole()

    def require_known_schema(self) -> None:
        """Raise BackupError if a newer version has made the backup."""
        made_by, known = self.summary.migration, migrations.available()[-1].version
        if made_by > known:
            raise BackupError(
                f"The backup is of version {self.summary.version}, whose database has migration "
                f"{made_by:04}; this version knows only those up to {known:04}",
                "install that version first",
            )

    def require_whole(self) -> None:
        """Raise BackupError if the list or the dump is damaged. The recordings are not read."""
        whole_list(self._backup)
        if sha256_of(self._backup / DUMP) != self.summary.dump_sha256:
            raise BackupError(f"{self._backup / DUMP} is damaged", "use another backup")

    def count(self) -> tuple[int, int]:
        """Return how many files it has, and how many bytes to copy."""
        copy = Copy(self._source, self._files, self._scratch)
        number = size = 0
        for file in self._listed():
            number += 1
            with suppress(ValueError):
                size += 0 if copy.holds(file) else file.size
        return number, size

    def copy(self, progress: Callable[[int], None]) -> Iterator[tuple[str, str]]:
        """Copy the files; yield the paths of those that could not be restored, and why."""
        self._scratch.mkdir(mode=FOLDER_MODE, exist_ok=True)
        for left in self._scratch.glob(f"{TEMPORARY}*"):
            left.unlink()
        copy = Copy(self._source, self._files, self._scratch, thorough=self._checksums)
        for outcome in copy.all(self._listed()):
            progress(1)
            if outcome.copied:
                self.copied_files += 1
                self.copied_bytes += outcome.file.size
            if outcome.fault:
                yield outcome.file.path, outcome.fault
        sync_disk(self._files.root)

    def load(self, connection: Connection, database_url: str) -> None:
        """Load the database, unless an interrupted run has. Until `rewind` the service refuses it.
        Raise BackupError if it is no longer empty, or in use."""
        self.require_database(connection)
        self.grants = read_grants(self._backup / DUMP)
        if queries.backups.list_relations(connection):
            return  # loaded by a run that was interrupted before its `rewind`
        queries.backups.begin_restore(connection, dump_sha256=self.summary.dump_sha256)
        self.left_out = load(database_url, self._backup / DUMP)
        reached(Failpoint.LOADED)

    def rewind(self, connection: Connection, *, waiting_status: ChunkStatus) -> None:
        """Let unfinished chunks wait again, as `waiting_status` so that the relay announces them,
        and raise the fence. Remove the mark of `load` in the same transaction, so that it is done
        once."""
        with connection.transaction():
            if self.summary.migration >= FIRST_WITH_LEASES:
                _rewind(connection, waiting_status)
            queries.backups.end_restore(connection)
        if self.summary.migration >= 1:
            self.devices = queries.backups.list_restored_devices(connection)

    def require_database(self, connection: Connection) -> None:
        """Raise BackupError unless the database is unused, or only this very backup was begun."""
        require_unused(connection)
        begun = queries.backups.get_unfinished_restore(connection)
        if queries.backups.list_relations(connection) and begun != self.summary.dump_sha256:
            raise BackupError(
                f"The database {connection.info.dbname} is half restored from another backup",
                f"restore that one, or create the database anew: {_anew(connection)}",
            )

    def _listed(self) -> Iterator[ListedFile]:
        return map(parse_line, read_lines(self._backup / FILES))


def require_unused(connection: Connection) -> None:
    """Raise BackupError unless the database is empty, or half restored, and nobody else uses it."""
    name = connection.info.dbname
    begun = queries.backups.get_unfinished_restore(connection)
    if (found := queries.backups.list_relations(connection)) and not begun:
        few = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise BackupError(
            f"The database {name} is not empty: it has {few}",
            f"create it anew: {_anew(connection)}",
        )
    if sessions := queries.backups.list_other_sessions(connection):
        raise BackupError(
            f"Others are connected to the database {name}: {', '.join(sessions)}",
            "stop the service, and the workers that use SQL, first",
        )


def _anew(connection: Connection) -> str:
    name = connection.info.dbname
    return (
        f"dropdb {name} && createdb --owner={connection.info.user} "
        f"--template=template0 --encoding=UTF8 {name}"
    )


def _rewind(connection: Connection, waiting_status: ChunkStatus) -> None:
    queries.backups.disable_chunk_triggers(connection)
    queries.backups.rewind_chunks(connection, waiting_status=waiting_status, step=FENCE_STEP)
    queries.backups.raise_pruned_attempts(connection, step=FENCE_STEP)
    queries.backups.enable_chunk_triggers(connection)
