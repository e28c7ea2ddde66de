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
from ingest_api.models.devices import Device

DEVICES_SHOWN = 50


@click.command()
@click.argument("backup", metavar="DIR/TIME", type=click.Path(path_type=Path))
@click.option(
    "--checksums", is_flag=True, help="Also verify existing files, and replace damaged ones."
)
@click.option("--force", is_flag=True, help="Proceed even if the backup has damaged files.")
@as_json_option
def restore(backup: Path, checksums: bool, force: bool, as_json: bool) -> None:
    """Restore a backup: its recordings and its database.

    The database in DATABASE_URL must be empty, and nobody else connected to it: stop the service
    first. Recordings in AUDIO_STORAGE_DIR with the right size are left alone; the others are copied
    and compared with their SHA-256. The database comes last, in one transaction. If the command was
    interrupted, run it again.

    Afterwards run flask ingest migrate, if the backup is of an older version, and flask ingest
    fsck. Unfinished chunks wait again, also for their announcement in Redis, and workers lose the
    leases of before. Grants to other roles are not restored but printed, as are the devices whose
    tokens may be older than the loss. Recordings received after the backup, and still in
    AUDIO_STORAGE_DIR, become stray files: flask ingest fsck --adopt writes their rows.

    Exit status 0: done; 1: failed. If files in the backup are damaged, the database is restored
    only with --force, without those files.
    """
    os.umask(0o027)  # as FILE_MODE and FOLDER_MODE in storage/disk/
    started = monotonic()
    backup = Path(os.path.realpath(backup))
    with opened() as (components, connection), _reading(backup):
        settings, files = components.settings, components.storage
        require_unused(connection)
        require_program("pg_restore", connection.info.server_version)
        _require_storage(files.root)
        run = Restore(backup, files, checksums=checksums)
        run.require_usable(connection)
        with files.locked():
            number, size = run.count()
            require_room(files.root, size, settings.min_free_bytes)
            faults = _copy(run, number)
            if faults and not force:
                raise BackupError(
                    f"{faults} files of the backup are damaged, so the database was not restored",
                    "use another backup, or add --force to go without these files",
                )
            if sys.stderr.isatty():
                click.echo("restoring the database", err=True)
            run.load(connection, settings.database_url)
            run.rewind(connection, waiting_status=settings.waiting_status)
    _show(run, faults, monotonic() - started, as_json)


def _reading(backup: Path) -> AbstractContextManager[None]:
    """Lock the folder for reading. In a copy that lacks the marker no backup can be made."""
    folder = BackupFolder(backup.parent)
    return folder.locked(reading=True) if (folder.root / MARKER).exists() else nullcontext()


def _require_storage(folder: Path) -> None:
    require_utf8()
    if not folder.is_dir():
        raise BackupError(f"There is no folder {folder}", "mount its disk, or create it")


def _copy(run: Restore, number: int) -> int:
    """Return how many files could not be copied."""
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
        devices = {"devices": [_device(device) for device in run.devices]}
        rest = {"grants": run.grants, "left_out": run.left_out} | devices
        click.echo(json.dumps(told | missing | rest | {"seconds": round(seconds, 1)}))
        return
    click.echo(
        f"restored {summary.chunks} chunks as of {summary.time} in {seconds:.1f} s: "
        f"{run.copied_files} of {summary.files} files ({megabytes(run.copied_bytes)}) were copied, "
        "the others were already there"
    )
    _show_left_out(run)
    _show_devices(run)
    if lost := summary.missing + faults:
        click.echo(
            f"{lost} rows have no file: flask ingest fsck --repair marks them as ERROR", err=True
        )


def _device(device: Device) -> dict[str, object]:
    ids = {name: str(vars(device)[name]) for name in ("device_id", "point_id", "register_id")}
    return ids | {"is_enabled": device.is_enabled}


def _show_left_out(run: Restore) -> None:
    if run.left_out:
        click.echo("not restored, because this server or this role cannot have them:")
        for name in run.left_out:
            click.echo(f"  {printable(name)}")
    if run.grants:
        click.echo("Grants that the old database had; none was made. Create the roles, and run as")
        click.echo("the owner of the tables:")
        for statement in run.grants:
            click.echo(f"  {printable(statement)}")


def _show_devices(run: Restore) -> None:
    if not run.devices:
        return
    click.echo(f"Tokens, and which devices are disabled, are as of {run.summary.time}. What was")
    click.echo("changed later must be changed again: flask ingest rotate-token DEVICE, or")
    click.echo("flask ingest disable-device DEVICE. The devices:")
    for device in run.devices[:DEVICES_SHOWN]:
        state = "enabled" if device.is_enabled else "disabled"
        click.echo(f"  {device.device_id}  {state:8}  at point {device.point_id}")
    if (more := len(run.devices) - DEVICES_SHOWN) > 0:
        click.echo(f"  and {more} more: flask ingest list-devices")
