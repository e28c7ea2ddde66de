"""What operators get wrong, looked for on the machine itself: the checks behind
`flask ingest doctor`. How the findings are shown is in `commands/doctor.py`.

    settings.py              faults, weak tokens, a .env that others can read
    process.py               what a process gets from its environment: descriptors, a real fsync
    storage.py, disk.py      the folder and a trial on it; the disk that it is on
    database.py, server.py   the database as the service reaches it; PostgreSQL's own settings
    queue.py                 Redis, where it keeps the stream, and the relay
    clock.py                 this machine's clock
    findings.py              what a check says

Nothing is changed, and no check ends the others: what cannot be checked is a finding too.
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
    """Every finding, as soon as it is made. What hangs on a faulty setting is left out."""
    reading = read_settings(environ)
    yield from check_settings(reading)
    yield from check_process(reading, environ)
    yield from check_storage(reading)
    yield from check_database(reading)
    yield from check_queue(reading)
    yield from check_clock()
