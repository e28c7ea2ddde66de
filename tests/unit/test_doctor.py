"""What the doctor makes of what it found: a level, a sentence, a cure."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest_api.doctor import clock, disk, queue, server, storage
from ingest_api.doctor.settings import judge_dotenv_file
from ingest_api.errors import StorageFull, StorageUnavailable
from ingest_api.models.queue import UploadedCount


@pytest.mark.parametrize(("mode", "level"), [(0o640, "ok"), (0o660, "warn"), (0o644, "warn")])
def test_a_dotenv_file_of_roots_may_be_read_by_the_services_group(mode: int, level: str) -> None:
    assert judge_dotenv_file(mode, ours=False).level == level


@pytest.mark.parametrize(
    ("error", "number", "advice"),
    [
        (StorageUnavailable, errno.EACCES, "chown -R"),
        (StorageUnavailable, errno.EPERM, "chown -R"),
        (StorageUnavailable, errno.EROFS, "mount -o remount,rw"),
        (StorageFull, errno.ENOSPC, "free some space"),
        (StorageFull, errno.EDQUOT, "quota"),
        (StorageUnavailable, errno.EIO, "dmesg"),
    ],
)
def test_what_the_disk_says_has_a_cure(error: Any, number: int, advice: str) -> None:
    told = error()
    told.__cause__ = OSError(number, os.strerror(number))
    finding = storage.judge_failure(told, Path("/srv/the audio"))
    assert finding.level == "fail"
    assert os.strerror(number) in finding.message
    assert advice in finding.advice
    assert "chown" not in advice or finding.advice.endswith(": '/srv/the audio'")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_told(number: int) -> None:
    told = StorageUnavailable()
    told.__cause__ = OSError(number, os.strerror(number), ".incoming/1", None, "audio/1")
    finding = storage.judge_failure(told, Path("/srv/audio"))
    assert finding.level == "fail"
    assert "has no hard links" in finding.message
    assert "ext4" in finding.advice
    assert "chown" not in finding.advice


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        *(("ext4", "ok"), ("xfs", "ok"), ("btrfs", "ok"), ("", "ok"), ("overlay", "warn")),
        *(("nfs4", "warn"), ("cifs", "warn"), ("fuse.sshfs", "warn"), ("9p", "warn")),
        *(("tmpfs", "fail"), ("ramfs", "fail")),
    ],
)
def test_file_systems_are_judged(kind: str, level: str) -> None:
    assert disk.judge_file_system(kind).level == level


@pytest.mark.parametrize(
    ("free", "total", "reserve", "level"),
    [
        (100, 1000, 50, "ok"),
        (99, 1000, 0, "warn"),
        (100, 1000, 51, "warn"),
        (100, 1000, 100, "warn"),
        (99, 1000, 100, "fail"),
        (0, 1000, 0, "warn"),
    ],
)
def test_space_is_judged(free: int, total: int, reserve: int, level: str) -> None:
    assert disk.judge_free_space(free, total, reserve).level == level


@pytest.mark.parametrize(("free", "level"), [(100, "ok"), (99, "warn"), (1, "warn"), (0, "fail")])
def test_inodes_are_judged(free: int, level: str) -> None:
    assert disk.judge_free_inodes(free, 1000).level == level


@pytest.mark.parametrize(("seconds", "level"), [(0.001, "ok"), (0.1, "ok"), (0.101, "warn")])
def test_a_slow_fsync_is_told(seconds: float, level: str) -> None:
    finding = storage.judge_fsync(seconds)
    assert finding.level == level
    assert finding.message.startswith(f"took {seconds * 1000:.1f} ms")


@pytest.mark.parametrize(("number", "level"), [(140019, "fail"), (150000, "ok"), (180006, "ok")])
def test_versions_of_postgresql_are_judged(number: int, level: str) -> None:
    assert server.judge_version(number).level == level


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(0, "ok"), (2, "ok"), (-2.1, "warn"), (60, "warn"), (60.1, "fail"), (-86400, "fail")],
)
def test_clock_differences_are_judged(seconds: float, level: str) -> None:
    assert clock.judge_difference(timedelta(seconds=seconds)).level == level


def test_a_clock_before_the_service_was_made_is_a_failure() -> None:
    assert clock.judge_date(datetime(2025, 12, 31, 23, 59, tzinfo=UTC)).level == "fail"
    assert clock.judge_date(datetime(2026, 1, 1, tzinfo=UTC)).level == "ok"


@pytest.mark.parametrize(("answer", "level"), [("yes", "ok"), ("no", "warn"), ("", "ok")])
def test_synchronization_is_judged(answer: str, level: str) -> None:
    assert clock.judge_synchronization(answer).level == level


@pytest.mark.parametrize(
    ("version", "level"), [("6.2.14", "warn"), ("7.0.0", "ok"), ("7.2.4", "ok"), ("8.2", "ok")]
)
def test_versions_of_redis_are_judged(version: str, level: str) -> None:
    assert queue.judge_version(version).level == level


@pytest.mark.parametrize(
    ("chunks", "seconds", "level"), [(0, 0.0, "ok"), (9, 60.0, "ok"), (1, 60.1, "warn")]
)
def test_a_late_relay_is_judged(chunks: int, seconds: float, level: str) -> None:
    assert queue.judge_relay(UploadedCount(chunks, seconds)).level == level
