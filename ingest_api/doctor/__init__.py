"""The checks behind `flask ingest doctor`: common mistakes, looked for on the machine itself.
`commands/doctor.py` shows the findings.

    settings.py              faults, weak tokens, a .env that others can read
    process.py               the process's environment: descriptors, a real fsync
    storage.py, disk.py      the folder, with a trial file in it; the disk below it
    database.py, server.py   the database as the service reaches it; PostgreSQL's own settings
    queue.py                 Redis and the relay; without them, chunks left waiting
    clock.py                 this machine's clock
    findings.py              the result of a check

Checks change nothing, and none ends the others: a check that cannot run is a finding too.
"""

from collections.abc import Iterator, Mapping

from ingest_api.doctor.clock import check_clock
from ingest_api.doctor.database import check_database
from ingest_api.doctor.findings import Finding, Level
from ingest_api.doctor.process import check_process
from ingest_api.doctor.queue import check_queue
from ingest_api.doctor.settings import check_settings, read_settings
from ingest_api.doctor.storage import check_storage

__all__ = ["Finding", "Level", "diagnose"]


def diagnose(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield each finding as soon as it is made, without checks that depend on a faulty setting."""
    reading = read_settings(environ)
    yield from check_settings(reading)
    yield from check_process(reading, environ)
    yield from check_storage(reading)
    yield from check_database(reading)
    yield from check_queue(reading)
    yield from check_clock()
