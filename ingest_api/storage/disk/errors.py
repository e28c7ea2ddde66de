"""Turns errors of the disk into errors for the client."""

import errno
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from ingest_api.errors import StorageFull, StorageUnavailable

FULL = {errno.ENOSPC, errno.EDQUOT}


_P = ParamSpec("_P")
_T = TypeVar("_T")


def disk_errors(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a function raise StorageFull or StorageUnavailable in place of an OSError."""

    @wraps(function)
    def translated(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull from error
            raise StorageUnavailable from error

    return translated
