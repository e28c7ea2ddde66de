"""Turns errors of the disk into errors for the client."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ingest_api.errors import StorageFull, StorageUnavailable

FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise StorageFull or StorageUnavailable in place of an OSError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull from error
        raise StorageUnavailable from error
