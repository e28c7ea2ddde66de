"""The process's environment, as this shell has it. Under systemd the unit's counts instead, which
cannot be seen from here."""

import resource
from collections.abc import Iterator, Mapping

from ingest_api.doctor.findings import Finding, fail, ok, warn
from ingest_api.doctor.settings import Reading


def check_process(reading: Reading, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield _judge_preload(environ.get("LD_PRELOAD", ""))
    if not reading.lacks("THREADS"):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield _judge_descriptors(hard, reading.settings.threads)


def _judge_preload(libraries: str) -> Finding:
    if "eatmydata" in libraries:
        return fail(
            "LD_PRELOAD",
            "loads eatmydata, so fsync does nothing: a power cut loses uploads after a 200",
            "unset LD_PRELOAD, and start the service without eatmydata",
        )
    return ok("LD_PRELOAD", "leaves fsync as it is")


def _judge_descriptors(hard: int, threads: int) -> Finding:
    """Judge as deploy/gunicorn.conf.py counts: four for each thread, 100 for the process itself."""
    needed = 4 * threads + 100
    if hard < needed:
        return warn(
            "open files",
            f"a process may have {hard}; THREADS={threads} needs {needed}, so it would use fewer "
            "threads",
            f"raise the limit in the unit (LimitNOFILE={max(needed, 65536)}) or here (ulimit -Hn), "
            "or lower THREADS",
        )
    return ok("open files", f"a process may have {hard}; THREADS={threads} needs {needed}")
