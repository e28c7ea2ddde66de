"""PostgreSQL's own programs, pg_dump and pg_restore, as found in PATH."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from ingest_api.backups.archive import Entry, left_out, read_entries, selections
from ingest_api.backups.manifest import BackupError
from ingest_api.models.backups import Relation

_OF_SESSIONS = {"PGOPTIONS", "PGDATESTYLE", "PGTZ", "PGCLIENTENCODING", "PGGEQO"}


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
def dumping(
    database_url: str, snapshot: str, target: Path, *, without: Sequence[Relation] = ()
) -> Iterator[None]:
    """Run pg_dump beside the body, until both are done. Raise BackupError with its message."""
    command = ["pg_dump", "--format=custom", "--no-password", f"--snapshot={snapshot}"]
    # Large objects are never the service's own, and pg_dump fails if it may not read one.
    command += ["--encoding=UTF8", "--no-blobs", "--no-publications", "--no-subscriptions"]
    command += [f"--exclude-table={relation.pattern()}" for relation in without]
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


def load(database_url: str, dump: Path) -> list[str]:
    """Load a dump into an empty database, in one transaction; return what had to be left out. Raise
    BackupError with pg_restore's message if even the service's own tables cannot be loaded."""
    entries, failure = read_entries(dump), ""
    for selection in selections(entries):
        if not (failure := _load(database_url, dump, selection)):
            return left_out(entries, selection)
    raise BackupError(f"pg_restore failed, so the database is still empty: {failure}")


def _load(database_url: str, dump: Path, entries: list[Entry]) -> str:
    """Load these entries of a dump; return why that failed, or an empty string."""
    command = ["pg_restore", "--exit-on-error", "--single-transaction", "--no-password"]
    # Roles, tablespaces and security labels belong to a machine, not to a database.
    command += ["--no-owner", "--no-acl", "--no-tablespaces", "--no-security-labels"]
    command += ["--no-publications", "--no-subscriptions"]
    options = _options(database_url)
    # Without the name here, nothing is restored; the rest is in the environment.
    command += [f"--dbname={make_conninfo(dbname=options.get('PGDATABASE'))}"]
    run = subprocess.run(
        [*command, "--use-list=/dev/stdin", str(dump)],
        env=_environment(database_url),
        input="".join(f"{entry.line}\n" for entry in entries),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return run.stderr.strip() or f"exit status {run.returncode}" if run.returncode else ""


def _environment(database_url: str) -> dict[str, str]:
    """Return this process's environment and the URL, without the variables by which libpq changes
    what a session reads and writes: as for the service, they change nothing."""
    kept = {name: value for name, value in os.environ.items() if name not in _OF_SESSIONS}
    return kept | _options(database_url)


def _options(database_url: str) -> dict[str, str]:
    """Return a URL as variables for libpq: every user could see a password in the arguments."""
    return {
        option.envvar.decode(): option.val.decode()
        for option in Conninfo.parse(database_url.encode())
        if option.envvar and option.val is not None
    }
