"""`flask ingest backup` and `flask ingest backups`."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from ingest_api.backups.create import NewBackup
from ingest_api.backups.folder import MISSING, SETTINGS, BackupFolder, read_summary, require_room
from ingest_api.backups.keep import Removed, keep
from ingest_api.backups.manifest import BackupError
from ingest_api.backups.programs import require_program
from ingest_api.commands.context import failures, maintenance, opened
from ingest_api.commands.output import progress_bar
from ingest_api.commands.parameters import as_json_option
from ingest_api.components import Components
from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.display import megabytes
from ingest_api.models.backups import BackupSummary

Made = tuple[Path, BackupSummary]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--init", is_flag=True, help="Make DIR ready, with its disk mounted, and do no more.")
@click.option(
    "--keep",
    "number",
    type=click.IntRange(min=1),
    default=14,
    show_default=True,
    help="How many backups remain, this one included.",
)
@click.option("--full", is_flag=True, help="Read every file that DIR has, and compare it.")
@click.option(
    "--settings",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Put a copy of this file, tokens and all, beside the dump.",
)
@click.option("--force", is_flag=True, help="Go on though files are missing, or all chunks gone.")
@as_json_option
def backup(
    folder: Path,
    init: bool,
    number: int,
    full: bool,
    settings: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Back up the database and every recording that its rows name into DIR.

    The service may go on running; prune and fsck --repair wait for another time. Each recording is
    compared with its SHA-256 while it is copied, and copied once, for all backups together: the
    first one takes long, the others little. Best on another disk, or another machine's: DIR may be
    copied elsewhere as it is.

    Older backups than --keep are removed, with the recordings that only they have. Until then they
    keep what retention, or a person's right to erasure, has removed from the service: with one
    backup a night, 14 days. To be rid of it at once, make one with --keep 1.

    Once a month or so use --full, which finds and mends what has been damaged on DIR's disk, and
    removes what no backup names.

    Exit status 0: done; 1: not done, or recordings are missing or damaged in the service: the
    backup lists those in `missing`, and has all the others.
    """
    os.umask(0o077)
    target = BackupFolder(folder)
    if init:
        with failures():
            target.prepare()
        click.echo(f"{target.root} is ready for backups")
        return
    with opened() as (components, connection), _ready(target, components, connection):
        path, summary = _make(components, connection, target, full, settings, force)
        removed = keep(target, number, path, full=full)
    _show(path, summary, removed, as_json)
    if summary.missing:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@as_json_option
def backups(folder: Path, as_json: bool) -> None:
    """Show the backups in DIR, the oldest first."""
    with failures():
        target = BackupFolder(folder)
        found = [(path, read_summary(path)) for path in target.complete()]
        partial = target.partial()
    if as_json:
        click.echo(json.dumps([{"path": str(path)} | asdict(summary) for path, summary in found]))
        return
    for path, summary in found:
        missing = f", {summary.missing} missing" if summary.missing else ""
        size = megabytes(summary.bytes + summary.dump_bytes)
        click.echo(f"{path}  {summary.chunks:>9,} chunks  {size:>14}{missing}")
    for path in partial:
        click.echo(f"{path}  interrupted; the next backup clears it away")


@contextmanager
def _ready(folder: BackupFolder, components: Components, connection: Connection) -> Iterator[None]:
    settings = components.settings
    folder.require_ready(settings.audio_storage_dir)
    require_program("pg_dump", connection.info.server_version)
    with folder.locked():
        # A dump is smaller: no indexes, and compressed.
        size = queries.backups.get_database_size(connection)
        require_room(folder.root, size, settings.min_free_bytes)
        yield


def _make(
    components: Components,
    connection: Connection,
    folder: BackupFolder,
    full: bool,
    settings_file: Path | None,
    force: bool,
) -> Made:
    settings, files = components.settings, components.storage
    with (
        maintenance(components, connection, exclusive=False, force=force),
        files.locked(waiting=lambda: click.echo("waiting for prune or fsck --repair", err=True)),
        folder.new() as path,
    ):
        new = NewBackup(folder, path, files, full=full)
        if sys.stderr.isatty():
            click.echo("dumping the database", err=True)
        new.dump(connection, settings.database_url)
        if not new.chunks and not force:
            _require_none_before(folder)
        number, size = new.count()
        require_room(folder.root, size, settings.min_free_bytes)
        if settings_file:
            shutil.copyfile(settings_file, path / SETTINGS)
        with progress_bar(number, "files") as advance:
            new.copy(advance)
        return new.finish()


def _require_none_before(folder: BackupFolder) -> None:
    last = [read_summary(path) for path in folder.complete()[-1:]]
    if last and last[0].chunks:
        raise BackupError(
            f"There are no chunks, and {last[0].chunks} in the last backup. Is DATABASE_URL the "
            "service's own? If they are really gone, add --force"
        )


def _show(path: Path, summary: BackupSummary, removed: Removed, as_json: bool) -> None:
    if as_json:
        told = {"path": str(path)} | asdict(summary) | {"removed": asdict(removed)}
        click.echo(json.dumps(told))
    else:
        click.echo(
            f"backed up {summary.chunks} chunks ({megabytes(summary.bytes)}) to {path} in "
            f"{summary.seconds:.1f} s, {summary.new_files} new files "
            f"({megabytes(summary.new_bytes)})"
        )
        if removed.backups or removed.files:
            files = f"{removed.files} files ({megabytes(removed.bytes)})"
            click.echo(f"removed {removed.backups} older backups and {files}")
    if summary.missing:
        said = f"{summary.missing} rows have no file, or a damaged one: see {path / MISSING}"
        click.echo(f"{said}, and flask ingest fsck --checksums", err=True)
