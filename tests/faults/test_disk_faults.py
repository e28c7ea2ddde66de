"""The disk is full, read-only, closed or gone: 507 or 503 with the cause in the log, no temporary
file left, and the service recovers by itself. On a real file system, small enough to fill."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from support.problems import CHUNKS, assert_outage, assert_problem, assert_recovery
from support.processes import eventually
from support.raw import raw_upload, read_status
from support.recorder import SPEECH, Recorder, multipart
from support.service import Service

from ingest_api.errors import StorageFull, StorageUnavailable
from ingest_api.storage.disk.temporary import TemporaryFile

AS_ROOT = os.geteuid() == 0
RESERVED = 65536
MOUNT = 'mount -t tmpfs -o size=8m,nr_inodes=500 tmpfs "$0" && exec "$@"'


class ServiceOnSmallDisk(Service):
    """It sees a disk of 8 MB where everybody else sees an empty folder, in a mount namespace of its
    own. Also when it is root, it must obey the modes of files."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        super().__init__(folder, database_url, **settings)
        self.disk = folder / "disk"
        self.settings["AUDIO_STORAGE_DIR"] = str(self.disk / "audio")
        namespace = ["--mount"] if AS_ROOT else ["--mount", "--user", "--map-root-user"]
        obedient = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        self.prefix = ["unshare", *namespace, "sh", "-c", MOUNT, str(self.disk), *obedient]

    def start(self, *, wait: bool = True) -> Service:
        self.disk.mkdir(parents=True)
        super().start(wait=wait)
        assert self.process
        self.storage = Path(f"/proc/{self.process.pid}/root{self.disk}/audio")
        return self

    def remount(self, options: str) -> None:
        assert self.process
        user = [] if AS_ROOT else ["--user", "--preserve-credentials"]
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", *user]
        mount = ["mount", "-o", f"remount,{options}", "tmpfs", str(self.disk)]
        subprocess.run([*enter, *mount], check=True)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]
) -> Iterator[ServiceOnSmallDisk]:
    running = ServiceOnSmallDisk(
        tmp_path_factory.mktemp("service"),
        new_database(),
        MIN_FREE_BYTES=str(RESERVED),
        WORKERS="1",
    )
    running.start()
    assert running.upload(running.recorder()).status_code == 200
    yield running
    assert running.stop() == 0


def _free(service: Service) -> int:
    status = os.statvfs(service.storage)
    return status.f_bavail * status.f_frsize


@contextmanager
def _filled(service: Service, *, but: int = 0) -> Iterator[None]:
    """No more than `but` bytes are free."""
    filler = service.storage.with_name("filler")
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, _free(service) - but)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _out_of_inodes(service: Service, *, but: int = 0) -> Iterator[None]:
    """No more than `but` names can be made."""
    fillers = service.storage.with_name("fillers")
    fillers.mkdir()
    try:
        for number in range(os.statvfs(service.storage).f_ffree - but):
            (fillers / str(number)).touch()
        yield
    finally:
        rmtree(fillers)


@contextmanager
def _read_only(service: ServiceOnSmallDisk) -> Iterator[None]:
    service.remount("ro")
    try:
        yield
    finally:
        service.remount("rw")


@contextmanager
def _removed(service: Service) -> Iterator[None]:
    away = service.storage.rename(service.storage.with_name("away"))
    try:
        yield
    finally:
        away.rename(service.storage)


@contextmanager
def _closed(folder: Path) -> Iterator[None]:
    """The service may read there but not write, as when somebody else owns it."""
    mode = folder.stat().st_mode
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(mode)


def _closed_storage(service: Service) -> AbstractContextManager[None]:
    rmtree(service.storage / ".incoming")  # which it may not make then
    return _closed(service.storage)


def _closed_incoming(service: Service) -> AbstractContextManager[None]:
    return _closed(service.storage / ".incoming")


def _closed_recordings(service: Service) -> AbstractContextManager[None]:
    (service.storage / "audio").mkdir(exist_ok=True)
    return _closed(service.storage / "audio")


@pytest.mark.parametrize(
    ("fault", "status", "code", "cause"),
    [
        (_filled, 507, "storage_full", "Only 0 bytes are free, 65536 are reserved"),
        (_out_of_inodes, 507, "storage_full", "[Errno 28] No space left on device"),
        (_read_only, 503, "storage_unavailable", "[Errno 30] Read-only file system"),
        (_removed, 503, "storage_unavailable", "[Errno 2] No such file or directory"),
        (_closed_storage, 503, "storage_unavailable", "[Errno 13] Permission denied"),
        (_closed_incoming, 503, "storage_unavailable", "[Errno 13] Permission denied"),
        (_closed_recordings, 503, "storage_unavailable", "[Errno 13] Permission denied"),
    ],
)
def test_a_disk_that_cannot_be_written(
    service: ServiceOnSmallDisk,
    recorder: Recorder,
    fault: Callable[[Service], AbstractContextManager[None]],
    status: int,
    code: str,
    cause: str,
) -> None:
    with fault(service):
        assert_outage(service, recorder, status, code, broken="storage_writable", cause=cause)
        assert service.rows(recorder) == []
    assert service.files(recorder) == []
    assert_recovery(service, recorder)


def test_less_than_the_reserve_is_refused_before_the_body_is_read(
    service: ServiceOnSmallDisk, recorder: Recorder
) -> None:
    with (
        _filled(service, but=RESERVED - 1),
        raw_upload(service, recorder, "Content-Length: 100000") as connection,
    ):
        assert read_status(connection) == 507
    with _filled(service, but=RESERVED + 8192):
        assert service.upload(recorder, CHUNKS[0]).status_code == 200


def test_a_disk_that_fills_up_while_a_file_is_written(
    service: ServiceOnSmallDisk, recorder: Recorder
) -> None:
    chunks = [b"%d" % number * 500_000 for number in range(4)]
    seen = len(service.log())
    with _filled(service, but=2 * RESERVED):
        before = _free(service)
        assert_problem(service.upload(recorder, chunks[0]), 507, "storage_full")
        [error] = [line["message"] for line in service.log()[seen:] if line["level"] == "ERROR"]
        assert error == "storage_full: [Errno 28] No space left on device"
        for answer in service.upload_at_once(recorder, chunks):
            assert assert_problem(answer, 507, "storage_full")["retryable"] is True
        assert not service.temporary_files()
        assert _free(service) == before
        assert service.health()[0] == 200  # for there is room for what is smaller:
        assert service.upload(recorder, CHUNKS[0]).status_code == 200
    assert {answer.status_code for answer in service.upload_at_once(recorder, chunks)} == {200}
    assert len(service.files(recorder)) == len(service.rows(recorder)) == 5


@pytest.mark.parametrize("names", range(6))
def test_a_disk_that_fills_up_at_any_step(
    service: ServiceOnSmallDisk, recorder: Recorder, names: int
) -> None:
    """The first upload of a device makes a temporary file, four folders, and the file's name."""
    with _out_of_inodes(service, but=names):
        assert_problem(service.upload(recorder, CHUNKS[0]), 507, "storage_full")
        assert not service.temporary_files()
        assert service.files(recorder) == service.rows(recorder) == []
    assert_recovery(service, recorder)


def test_a_folder_that_belongs_to_somebody_else(
    service: ServiceOnSmallDisk, recorder: Recorder
) -> None:
    path = service.storage / "audio" / str(recorder.device.point_id)
    path.mkdir(parents=True)
    with _closed(path):
        for answer in service.upload_at_once(recorder, CHUNKS):
            problem = assert_problem(answer, 503, "storage_unavailable")
            assert problem["retryable"] is True
        assert not service.temporary_files()
        assert service.rows(recorder) == []
    assert "storage_unavailable: [Errno 13] Permission denied" in service.log_path.read_text()
    assert_recovery(service, recorder)


@pytest.mark.parametrize("folder", [".incoming", "audio"])
def test_a_folder_that_was_removed_is_made_again_at_once(
    service: ServiceOnSmallDisk, recorder: Recorder, folder: str
) -> None:
    assert service.upload(recorder, CHUNKS[0]).status_code == 200
    rmtree(service.storage / folder)
    assert_recovery(service, recorder)


def test_a_temporary_file_that_cannot_be_removed_costs_no_upload(
    service: ServiceOnSmallDisk, recorder: Recorder
) -> None:
    body = multipart(recorder.form(), SPEECH)
    with raw_upload(service, recorder, f"Content-Length: {len(body)}") as connection:
        connection.sendall(body[:100_000])
        [left] = eventually(service.temporary_files)
        left.parent.chmod(0o500)
        connection.sendall(body[100_000:])
        assert read_status(connection) == 200
    left.parent.chmod(0o750)
    assert "a temporary file was left behind: [Errno 13]" in service.log_path.read_text()
    assert service.temporary_files() == [left]
    left.unlink()
    assert [file.read_bytes() for file in service.files(recorder)] == [SPEECH]
    assert len(service.rows(recorder)) == 1


def test_a_full_disk_is_told_apart_from_a_broken_one(tmp_path: Any) -> None:
    full, read_only = TemporaryFile(tmp_path / "full"), TemporaryFile(tmp_path / "read-only")
    os.dup2(os.open("/dev/full", os.O_WRONLY), full._descriptor)
    os.dup2(os.open("/dev/null", os.O_RDONLY), read_only._descriptor)
    try:
        with pytest.raises(StorageFull) as caught:
            full.write(b"x")
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ENOSPC
        with pytest.raises(StorageUnavailable):
            read_only.write(b"x")
    finally:
        full.discard()
        read_only.discard()
