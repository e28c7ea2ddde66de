"""Turns what the disk reports into what the client is told."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ingest_api.errors import StorageFull, StorageUnavailable


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the disk says into what the client is told."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFull from error
        raise StorageUnavailable from error
