"""The commands for operators: `flask ingest ...`. Needs no FLASK_APP: it is a plugin of flask's.

Output is for people; with `--json`, for programs. Exit status 0: done; 1: not done, and the
message says why; 2: wrong usage. Where a command's own differ, its --help says so.
"""

import click

from ingest_api.commands import (
    backup,
    devices,
    doctor,
    fsck,
    migrate,
    prune,
    queue,
    relay,
    requeue,
    restore,
)


@click.group()
def ingest() -> None:
    """Operate the ingest service: its schema, its devices and what it stores.

    The database is the one that DATABASE_URL names.
    """


for command in (
    doctor.doctor,
    fsck.fsck,
    prune.prune,
    backup.backup,
    backup.backups,
    restore.restore,
    queue.queue,
    requeue.requeue_command,
    relay.relay,
    migrate.migrate,
    devices.add_device,
    devices.list_devices,
    devices.enable_device,
    devices.disable_device,
    devices.rotate_token,
):
    ingest.add_command(command)
