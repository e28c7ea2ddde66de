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
_REMEDY = (
    "Damaged backups do not count for --keep and are never removed. Copy what is missing back from "
    "another copy of {root}, or remove them: rm -r"
)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--init", is_flag=True, help="Only prepare DIR for backups; its disk must be mounted."
)
@click.option(
    "--keep",
    "number",
    type=click.IntRange(min=1),
    default=14,
    show_default=True,
    help="How many backups to keep, including this one.",
)
@click.option("--full", is_flag=True, help="Verify every file in DIR, and repair damaged ones.")
@click.option(
    "--settings",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Also back up this settings file, including its tokens.",
)
@click.option(
    "--force", is_flag=True, help="Proceed even if files are missing or all chunks are gone."
)
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
    """Back up the database and the recordings into DIR.

    The service may keep running; prune and fsck --repair are refused meanwhile. Each recording is
    copied once, for all backups, and compared with its SHA-256 on the way. So the first backup
    takes long, later ones do not. DIR should be on another disk or machine, and may be copied
    elsewhere as it is.

    Backups beyond --keep are removed, oldest first, with the recordings that only they contain.
    Until then they keep what retention, or a person's right to erasure, has removed from the
    service: 14 days, with one backup a night. To remove it at once, make a backup with --keep 1.

    Use --full about once a month: it finds and repairs damage on DIR's disk, and removes files
    that no backup lists.

    Exit status 0: done; 1: failed, or recordings are missing or damaged in the service. The backup
    lists those in `missing`, and contains all others.
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
        damaged = target.damaged()
        queries.maintenance.record_run(connection, "backup")
    _show(path, summary, removed, as_json)
    _warn(target, removed, damaged)
    if summary.missing:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@as_json_option
def backups(folder: Path, as_json: bool) -> None:
    """List the backups in DIR, oldest first."""
    with failures():
        target = BackupFolder(folder)
        found = [(path, read_summary(path)) for path in target.complete()]
        partial, damaged = target.partial(), target.damaged()
    if as_json:
        _warn(target, None, damaged)
        click.echo(json.dumps([{"path": str(path)} | asdict(summary) for path, summary in found]))
        return
    for path, summary in found:
        missing = f", {summary.missing} missing" if summary.missing else ""
        size = megabytes(summary.bytes + summary.dump_bytes)
        click.echo(f"{path}  {summary.chunks:>9,} chunks  {size:>14}{missing}")
    for path, reason in damaged:
        click.echo(f"{path}  damaged: {reason}")
    if damaged:
        click.echo(_REMEDY.format(root=target.root), err=True)
    for path in partial:
        click.echo(f"{path}  interrupted; the next backup cleans it up")


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
            f"The database has no chunks, but the last backup has {last[0].chunks}",
            "check that DATABASE_URL is the service's own; if they are really gone, add --force",
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
    if summary.left_out:
        click.echo(
            f"left out, because this role may not read them: {', '.join(summary.left_out)}",
            err=True,
        )
    if summary.missing:
        said = f"{summary.missing} rows have no file, or a damaged one. See {path / MISSING}"
        click.echo(f"{said}, and run: flask ingest fsck --checksums", err=True)


def _warn(folder: BackupFolder, removed: Removed | None, damaged: list[tuple[Path, str]]) -> None:
    for path, reason in damaged:
        click.echo(f"{path}  damaged: {reason}", err=True)
    if damaged:
        click.echo(_REMEDY.format(root=folder.root), err=True)
    if removed and removed.postponed:
        click.echo(
            "No recording was removed, because a damaged backup may need it. See "
            f"{removed.postponed}",
            err=True,
        )
