"""The steps of an upload, by name: where a crash leaves something else behind than before.

Each is announced as an audit event (`sys.audit`, PEP 578), which costs next to nothing while
nobody listens. The tests listen, and kill the process there.
"""

import sys
from enum import StrEnum

EVENT = "ingest_api.step"


class Failpoint(StrEnum):
    """In the order in which an upload passes them."""

    OPENED = "opened"  # the temporary file is there
    WRITTEN = "written"  # and a piece of the recording in it
    SYNCED = "synced"  # all of it, durably
    FOLDER_MADE = "folder_made"  # one of those above, its name not yet durable
    LINKED = "linked"  # the file has its final name
    FOLDER_SYNCED = "folder_synced"  # durably, and so have the folders
    COMMITTED = "committed"  # its row is durable too
    CLEANED = "cleaned"  # the temporary name is gone
    ANSWERING = "answering"  # nothing is left but to say so


def reached(failpoint: Failpoint) -> None:
    """Announce that this process has just reached `failpoint` of an upload."""
    sys.audit(EVENT, failpoint.value)
