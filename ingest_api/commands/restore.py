"""`flask ingest restore`."""

import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import monotonic

import click

from ingest_api.backups.folder import MARKER, BackupFolder, require_room
from ingest_api.backups.manifest import BackupError
from ingest_api.backups.programs import require_program
from ingest_api.backups.restore import Restore, require_unused
from ingest_api.commands.context import opened, require_utf8
from ingest_api.commands.output import progress_bar
from ingest_api.commands.parameters import as_json_option
from ingest_api.display import megabytes, printable


@click.command()
@click.argument("backup", metavar="DIR/TIME", type=click.Path(path_type=Path))
@click.option("--checksums", is_flag=True, help="Read the files that are there already as well.")
@click.option("--force", is_flag=True, help="Go on though the backup has damaged files.")
@as_json_option
def restore(backup: Path, checksums: bool, force: bool, as_json: bool) -> None:
    """Put a backup back: its recordings into AUDIO_STORAGE_DIR, and its database.

    The database that DATABASE_URL names must be empty, and nobody else connected to it: stop the
    service first. Recordings that are there with the right size are left alone, others copied and
    compared with their SHA-256, and the database comes last, as a whole: what was interrupted is
    run again.

    Afterwards: flask ingest migrate, if the backup is of an older version, and flask ingest fsck.
    Recordings that were received after the backup, and are still in AUDIO_STORAGE_DIR, it will call
    stray files.

    Exit status 0: done; 1: not done. Where the backup itself has damaged files, the database is
    only restored with --force, and those files are not.
    """
    os.umask(0o027)  # the modes of storage.py
    started = monotonic()
    backup = Path(os.path.realpath(backup))
    with opened() as (components, connection), _reading(backup):
        settings, files = components.settings, components.storage
        require_unused(connection)
        require_program("pg_restore", connection.info.server_version)
        _require_storage(files.root)
        run = Restore(backup, files, checksums=checksums)
        run.require_known_schema()
        run.require_whole()
        with files.locked():
            number, size = run.count()
            require_room(files.root, size, settings.min_free_bytes)
            faults = _copy(run, number)
            if faults and not force:
                raise BackupError(
                    f"{faults} files of the backup are damaged, so the database was not restored. "
                    "Take another backup, or add --force and go without these files"
                )
            if sys.stderr.isatty():
                click.echo("restoring the database", err=True)
            run.load(connection, settings.database_url)
    _show(run, faults, monotonic() - started, as_json)


def _reading(backup: Path) -> AbstractContextManager[None]:
    """No backup can be made in a copy of the folder that lacks the marker."""
    folder = BackupFolder(backup.parent)
    return folder.locked(reading=True) if (folder.root / MARKER).exists() else nullcontext()


def _require_storage(folder: Path) -> None:
    require_utf8()
    if not folder.is_dir():
        raise BackupError(f"There is no folder {folder}", "mount its disk, or make it first")


def _copy(run: Restore, number: int) -> int:
    """How many files could not be."""
    faults = 0
    with progress_bar(number, "files") as advance:
        for path, reason in run.copy(advance):
            faults += 1
            click.echo(f"{printable(path)}  {printable(reason)}", err=True)
    return faults


def _show(run: Restore, faults: int, seconds: float, as_json: bool) -> None:
    summary = run.summary
    if as_json:
        copied = {"files": run.copied_files, "bytes": run.copied_bytes}
        told = {"time": summary.time, "chunks": summary.chunks, "copied": copied}
        missing = {"missing": summary.missing, "faults": faults}
        click.echo(json.dumps(told | missing | {"seconds": round(seconds, 1)}))
        return
    click.echo(
        f"restored {summary.chunks} chunks as of {summary.time} in {seconds:.1f} s: "
        f"{run.copied_files} of {summary.files} files ({megabytes(run.copied_bytes)}) were copied, "
        "the others were there"
    )
    if lost := summary.missing + faults:
        click.echo(f"{lost} rows have no file: flask ingest fsck --repair marks them", err=True)
