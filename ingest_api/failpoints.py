"""The steps of an upload, by name. A crash leaves a different state behind after each.

Each is announced as an audit event (`sys.audit`, PEP 578), which costs next to nothing without a
listener. The tests listen, and kill the process there.
"""

import sys
from enum import StrEnum

EVENT = "ingest_api.step"


class Failpoint(StrEnum):
    """A step; they are in the order of an upload, those of commands last."""

    OPENED = "opened"  # the temporary file exists
    WRITTEN = "written"  # it holds a piece of the recording
    SYNCED = "synced"  # it holds all of it, durably
    FOLDER_MADE = "folder_made"  # a folder for it exists, not yet durably
    LINKED = "linked"  # the file has its final name
    FOLDER_SYNCED = "folder_synced"  # that name and the folders are durable
    COMMITTED = "committed"  # its row is durable too
    CLEANED = "cleaned"  # the temporary name is gone
    ANSWERING = "answering"  # only the answer remains

    LOADED = "loaded"  # of a restore: the dump is in the database, its fence is not raised


def reached(failpoint: Failpoint) -> None:
    """Announce that this process has just reached `failpoint`."""
    sys.audit(EVENT, failpoint.value)
