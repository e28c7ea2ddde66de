"""Who may hold how many of a pool's connections at once."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from time import monotonic

from psycopg_pool import PoolTimeout


class _Turn:
    """The lock of one owner, and how many threads hold it or wait for it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.threads = 0


class Shares:
    """Divides a pool of `size` connections.

    An owner, such as a device, has one connection at a time, so whatever holds up one device leaves
    the rest to the others. What is no upload has half of the pool in all.
    """

    def __init__(self, size: int) -> None:
        self._others = BoundedSemaphore(max(1, size // 2))
        self._guard = Lock()
        self._turns: dict[Hashable, _Turn] = {}

    @contextmanager
    def of_owner(self, owner: Hashable, deadline: float) -> Iterator[None]:
        """Wait for the owner's turn until `deadline` (monotonic) at most. PoolTimeout."""
        with self._guard:
            turn = self._turns.setdefault(owner, _Turn())
            turn.threads += 1
        try:
            if not turn.lock.acquire(timeout=_left(deadline)):
                raise PoolTimeout("its earlier requests still wait for the database")
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            with self._guard:
                turn.threads -= 1
                if not turn.threads:
                    del self._turns[owner]

    @contextmanager
    def of_others(self, deadline: float) -> Iterator[None]:
        """Wait for one of the connections that are not kept for uploads. PoolTimeout."""
        if not self._others.acquire(timeout=_left(deadline)):
            raise PoolTimeout("the connections that are not kept for uploads are all in use")
        try:
            yield
        finally:
            self._others.release()


def _left(deadline: float) -> float:
    return max(0.0, deadline - monotonic())
