"""The commands for operators, `flask ingest ...`: a plugin of flask's that needs no FLASK_APP.

Output is for people, or with `--json` for programs. Exit status 0: done; 1: failed, and the
message says why; 2: wrong usage; 3: standard output was closed or full, so the command has stopped.
A command with other statuses says so in its --help.
"""

import click

from ingest_api.commands import (
    backup,
    coverage,
    devices,
    doctor,
    fleet,
    fsck,
    migrate,
    names,
    prune,
    queue,
    relay,
    requeue,
    restore,
)
from ingest_api.commands.output import CommandGroup


@click.group(cls=CommandGroup)
def ingest() -> None:
    """Operate the ingest service: its schema, devices, queue and recordings.

    Commands use the database in DATABASE_URL. Exit status 3: standard output was closed or full.
    """


for command in (
    fleet.fleet,
    coverage.coverage,
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
    names.set_name,
    devices.enable_device,
    devices.disable_device,
    devices.rotate_token,
):
    ingest.add_command(command)
