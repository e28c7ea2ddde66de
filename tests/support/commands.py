"""`flask ingest ...`: in the test's own process, or in one of its own where that matters."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from unittest.mock import patch

from click.testing import CliRunner
from flask.cli import cli

from support.service import clean_environ

COMMAND = (sys.executable, "-m", "flask", "ingest")
_running = Lock()


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def flask_ingest(
    database_url: str,
    *arguments: str,
    stdin: str | None = None,
    cwd: Path | None = None,
    **settings: str,
) -> Result:
    """Run `flask ingest ...` in this process, which takes a tenth of the time.

    One at a time: the environment, the standard streams and the umask are the process's.
    """
    environ = clean_environ(DATABASE_URL=database_url, **settings)
    with _alone(), ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, environ, clear=True))
        stack.enter_context(_process_restored())
        if cwd is not None:
            stack.enter_context(chdir(cwd))
        result = CliRunner().invoke(
            cli, ["ingest", *arguments], input=stdin, prog_name="flask", catch_exceptions=False
        )
    return Result(result.exit_code, result.stdout, result.stderr)


def flask_ingest_process(
    database_url: str,
    *arguments: str,
    prefix: Sequence[str] = (),
    stdin: str | None = None,
    cwd: Path | None = None,
    **settings: str,
) -> Result:
    """Run `flask ingest ...` as an operator does; `prefix` runs it in other surroundings."""
    done = subprocess.run(
        [*prefix, *COMMAND, *arguments],
        env=clean_environ(DATABASE_URL=database_url, **settings),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@contextmanager
def _alone() -> Iterator[None]:
    if not _running.acquire(blocking=False):
        raise RuntimeError("a command is running in this process: use flask_ingest_process()")
    try:
        yield
    finally:
        _running.release()


@contextmanager
def _process_restored() -> Iterator[None]:
    """Put back what a command changes because its process is its own."""
    umask = os.umask(0o022)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []  # pytest's: warnings go to standard error
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.umask(umask)
