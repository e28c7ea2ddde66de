"""The folder AUDIO_STORAGE_DIR: its owner, its mode, and whether a file can really be stored there,
which a trial file shows. `disk.py` checks the disk below it."""

import errno
import os
import pwd
import shlex
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from time import monotonic

from ingest_api.doctor.disk import check_disk
from ingest_api.doctor.findings import Finding, fail, ok, one_line, warn
from ingest_api.doctor.settings import Reading
from ingest_api.errors import IngestError
from ingest_api.settings import Settings
from ingest_api.storage.disk.storage import DiskStorage
from ingest_api.storage.layout import INCOMING, RECORDINGS, StoredPath

SLOW_FSYNC_SECONDS = 0.1
_CHUNK = bytes(190_000)  # as large as most

_NAME = "AUDIO_STORAGE_DIR"
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # of link(2)


def check_storage(reading: Reading) -> Iterator[Finding]:
    if reading.lacks(_NAME):
        return
    root = reading.settings.audio_storage_dir
    try:
        status = root.stat()
        yield _judge_folder(root, status)
        if stat.S_ISDIR(status.st_mode):
            yield _judge_owner(root, status)
            yield _judge_mode(root, status)
            yield from _check_writing(reading.settings)
            yield from check_disk(reading)
    except FileNotFoundError:
        cure = f"as the service's user: install -d -m 750 {_quoted(root)}; or correct {_NAME}"
        yield fail(_NAME, f"{root} does not exist", cure)
    except OSError as error:
        yield fail(
            _NAME, f"cannot be checked: {one_line(error)}", f"repair that, or correct {_NAME}"
        )


def _judge_folder(root: Path, status: os.stat_result) -> Finding:
    if stat.S_ISDIR(status.st_mode):
        return ok(_NAME, f"{root} is a folder")
    return fail(_NAME, f"{root} is not a folder", f"move it away, or correct {_NAME}")


def _judge_owner(root: Path, status: os.stat_result) -> Finding:
    owner, me = _user_name(status.st_uid), _user_name(os.geteuid())
    if owner == me:
        return ok("storage owner", f"is {owner}, who runs this check")
    return warn(
        "storage owner",
        f"is {owner}, but {me} runs this check: the service may have other rights",
        f"run this as the service's user; if that is {me}: chown -R {me}: {_quoted(root)}",
    )


def _judge_mode(root: Path, status: os.stat_result) -> Finding:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o006:
        return warn(
            "storage mode",
            f"is {mode:o}: every user of this machine can access the recordings",
            f"chmod 750 {_quoted(root)}",
        )
    return ok("storage mode", f"is {mode:o}: closed to others")


def _check_writing(settings: Settings) -> Iterator[Finding]:
    try:
        seconds = _store_and_remove(settings.audio_storage_dir)
    except IngestError as error:
        yield judge_failure(error, settings.audio_storage_dir)
    else:
        yield ok("storage write", "a file was written, synced, given its final name and removed")
        yield judge_fsync(seconds)


def _store_and_remove(root: Path) -> float:
    """Store a file as an upload does, and return the seconds that its fsync took."""
    storage = DiskStorage(root)  # without a reserve: free space is another check
    file_path = StoredPath(f"{RECORDINGS}/.doctor-{token_hex(8)}")
    final = storage.root / file_path
    with _signals_kept_waiting(), _removed_afterwards(final), storage.spool() as file:
        file.write(_CHUNK)
        started = monotonic()
        file.sync()
        seconds = monotonic() - started
        storage.store(file, file_path, datetime.now(UTC))
    return seconds


@contextmanager
def _signals_kept_waiting() -> Iterator[None]:
    """Defer signals that would stop the doctor before it has cleaned up."""
    stopping = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _removed_afterwards(final: Path) -> Iterator[None]:
    """Leave no file behind, and no folder that was not there before: one created by root would lock
    out the service."""
    made = [folder for folder in (final.parent, final.parents[1] / INCOMING) if not folder.exists()]
    try:
        yield
    finally:
        final.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):  # a service that was just started is using it
                folder.rmdir()


def judge_failure(error: IngestError, root: Path) -> Finding:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else OSError()
    number = cause.errno
    if number in _NO_HARD_LINKS and cause.filename2 is not None:
        return fail(
            "storage write",
            "the file system has no hard links: no upload can get its final name",
            f"set {_NAME} to a folder on ext4, xfs or btrfs",
        )
    if number == errno.EXDEV:
        return fail(
            "storage write",
            f"{INCOMING} and {RECORDINGS} are on different file systems: no upload can get its "
            "final name",
            f"make both plain folders of {root}, without a mount or a symbolic link",
        )
    me = _user_name(os.geteuid())
    cures = {
        errno.EACCES: f"if {me} is the service's user: chown -R {me}: {_quoted(root)}",
        errno.EPERM: f"if {me} is the service's user: chown -R {me}: {_quoted(root)}",
        errno.EROFS: "find out why it is read-only (dmesg), then: mount -o remount,rw",
        errno.ENOSPC: "free some space",
        errno.EDQUOT: f"raise the disk quota of {me}",
    }
    default = f"repair {root}; the kernel may say more: dmesg"
    return fail("storage write", f"failed: {error.cause}", cures.get(number or 0, default))


def judge_fsync(seconds: float) -> Finding:
    found = f"took {seconds * 1000:.1f} ms"
    if seconds > SLOW_FSYNC_SECONDS:
        return warn(
            "storage fsync",
            f"{found}: fsync is slow on this disk, and each upload waits for several",
            "use an SSD, or find out what else keeps the disk busy: iostat -x 1",
        )
    return ok("storage fsync", found)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
