"""PostgreSQL's own programs, pg_dump and pg_restore, as found in PATH."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from ingest_api.backups.manifest import BackupError


def require_program(name: str, server_version: int = 0) -> None:
    """Raise BackupError if it is not installed, or older than the server."""
    server = server_version // 10000
    package = f"postgresql-client-{server}" if server else "postgresql-client"
    if not shutil.which(name):
        raise BackupError(f"{name} is not installed", f"run: apt install {package}")
    told = subprocess.run([name, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\(PostgreSQL\) ([0-9]+)", told)
    if not found or int(found[1]) < server:
        raise BackupError(
            f"PostgreSQL has version {server}, but {name} says {told.strip()!r}",
            f"run: apt install {package}",
        )


@contextmanager
def dumping(database_url: str, snapshot: str, target: Path) -> Iterator[None]:
    """Run pg_dump beside the body, until both are done. Raise BackupError with its message."""
    command = ["pg_dump", "--format=custom", "--no-password", f"--snapshot={snapshot}"]
    command += [f"--file={target}"]
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            command, env=_environment(database_url), stdin=subprocess.DEVNULL, stderr=errors
        )
        try:
            yield
            failed = process.wait() != 0
        finally:
            process.kill()
            process.wait()
        if failed:
            errors.seek(0)
            raise BackupError(f"pg_dump failed: {errors.read().decode(errors='replace').strip()}")


def load(database_url: str, dump: Path) -> None:
    """Load a whole dump into an empty database. Raise BackupError with pg_restore's message."""
    command = ["pg_restore", "--exit-on-error", "--single-transaction", "--no-owner"]
    options = _options(database_url)
    # Without the name here, nothing is restored; the rest is in the environment.
    command += ["--no-password", f"--dbname={make_conninfo(dbname=options.get('PGDATABASE'))}"]
    run = subprocess.run(
        [*command, str(dump)],
        env=_environment(database_url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if run.returncode:
        raise BackupError(
            f"pg_restore failed, so the database is still empty: {run.stderr.strip()}"
        )


def _environment(database_url: str) -> dict[str, str]:
    return os.environ | _options(database_url)


def _options(database_url: str) -> dict[str, str]:
    """Return a URL as variables for libpq: every user could see a password in the arguments."""
    return {
        option.envvar.decode(): option.val.decode()
        for option in Conninfo.parse(database_url.encode())
        if option.envvar and option.val is not None
    }
