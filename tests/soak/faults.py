"""What is done to a service under load: killed, restarted, frozen.

Each fault leaves the site running, or about to run again.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from random import Random

from lab.service import Site, children_of

# Less and more than the service waits for PostgreSQL (USE_SECONDS in ingest_api/database/pool.py).
FREEZE_SECONDS = (1.0, 7.0)


class Faults:
    """Faults in a random order, in which each comes once before any comes again."""

    def __init__(self, site: Site, names: Sequence[str], seed: int) -> None:
        self.counts = Counter(dict.fromkeys(names, 0))
        self._site = site
        self._random = Random(seed)
        self._order = self._cycle(list(names))

    @property
    def complete(self) -> bool:
        """Whether each has happened."""
        return all(self.counts.values())

    def strike(self) -> None:
        """Do the next one."""
        name = next(self._order)
        FAULTS[name](self)
        self.counts[name] += 1

    def _cycle(self, names: list[str]) -> Iterator[str]:
        while True:
            self._random.shuffle(names)
            yield from names

    def kill_server_process(self) -> None:
        """SIGKILL a server process; gunicorn's master starts another."""
        with suppress(ProcessLookupError):
            os.kill(self._random.choice(self._site.workers()), signal.SIGKILL)

    def kill_master(self) -> None:
        """SIGKILL gunicorn's master, wait for its orphans, start the service again."""
        self._site.master.kill()
        self._site.wait_for_service_to_end()
        self._site.start_service()

    def restart(self) -> None:
        """SIGTERM the master, wait until it has ended, start the service again."""
        self._site.master.terminate()
        self._site.wait_for_service_to_end()
        self._site.start_service()

    def reload(self) -> None:
        """SIGHUP the master: new server processes take over, and no upload may fail."""
        self._site.master.send_signal(signal.SIGHUP)

    def kill_postgres(self) -> None:
        """SIGKILL the postmaster, or shut it down immediately; start PostgreSQL again."""
        signum = self._random.choice((signal.SIGKILL, signal.SIGQUIT))
        self._site.postgres.kill(signum)
        self._site.postgres.start()

    def end_backends(self) -> None:
        """Terminate all sessions of the service."""
        with self._site.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ingest_api'"
            )

    def freeze_server_process(self) -> None:
        """SIGSTOP a server process, SIGCONT it 1 to 7 s later."""
        process = self._random.choice(self._site.workers())
        self._site.freeze([process], self._random.uniform(*FREEZE_SECONDS))

    def freeze_postgres(self) -> None:
        """SIGSTOP all of PostgreSQL, SIGCONT it 1 to 7 s later."""
        postmaster = self._site.postgres.process.pid
        pids = [postmaster, *children_of(postmaster)]
        self._site.freeze(pids, self._random.uniform(*FREEZE_SECONDS))


FAULTS: dict[str, Callable[[Faults], None]] = {
    "server process": Faults.kill_server_process,
    "master": Faults.kill_master,
    "restart": Faults.restart,
    "reload": Faults.reload,
    "postgres": Faults.kill_postgres,
    "backends": Faults.end_backends,
    "freeze server process": Faults.freeze_server_process,
    "freeze postgres": Faults.freeze_postgres,
}
