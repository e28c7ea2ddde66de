"""The disk below AUDIO_STORAGE_DIR: its file system and its free space."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ingest_api.display import binary_size
from ingest_api.doctor.findings import Finding, fail, ok, warn
from ingest_api.doctor.settings import Reading

_NETWORK = {"9p", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "nfs", "nfs4", "smb3"}
_MEMORY = {"ramfs", "tmpfs"}
_MORE_SPACE = "remove old recordings (flask ingest prune --help), or enlarge the disk"


def check_disk(reading: Reading) -> Iterator[Finding]:
    root = reading.settings.audio_storage_dir
    yield judge_file_system(_file_system_type(root))
    status = os.statvfs(root)
    if not reading.lacks("MIN_FREE_BYTES"):
        block = status.f_frsize
        free, total = status.f_bavail * block, status.f_blocks * block
        yield judge_free_space(free, total, reading.settings.min_free_bytes)
    if status.f_files:  # some file systems, such as btrfs, do not count them
        yield judge_free_inodes(status.f_favail, status.f_files)


def _file_system_type(folder: Path) -> str:
    """Return the type in /proc/self/mountinfo, see proc_pid_mountinfo(5), or "" if unknown."""
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    mount = re.search(r"^mnt_id:\s*(\d+)$", info, re.MULTILINE)
    mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
    line = mount and re.search(rf"^{mount[1]} .* - (\S+) ", mounts, re.MULTILINE)
    return line[1] if line else ""


def judge_file_system(kind: str) -> Finding:
    name = "storage file system"
    cure = "set AUDIO_STORAGE_DIR to a folder on a local disk"
    if kind in _MEMORY:
        return fail(name, f"is {kind}, which is memory: a power cut loses all of it", cure)
    if kind in _NETWORK:
        return warn(name, f"is {kind}, a network share: its server decides what fsync means", cure)
    if kind == "overlay":
        cure = "mount a volume at AUDIO_STORAGE_DIR"
        return warn(name, f"is {kind}: the recordings are lost with the container", cure)
    return ok(name, f"is {kind or 'unknown'}")


def judge_free_space(free: int, total: int, reserve: int) -> Finding:
    """Judge numbers of bytes; `reserve` is MIN_FREE_BYTES."""
    name = "storage space"
    found = f"{binary_size(free)} of {binary_size(total)} are free"
    stop = f"below {binary_size(reserve)} (MIN_FREE_BYTES) uploads get 507"
    if free < reserve:
        return fail(name, f"{found}; {stop}", _MORE_SPACE)
    if free < 2 * reserve or free * 10 < total:
        return warn(name, f"{found}, which is low; {stop}", _MORE_SPACE)
    return ok(name, f"{found}; {stop}")


def judge_free_inodes(free: int, total: int) -> Finding:
    name = "storage inodes"
    found = f"{free} of {total} are free"
    cure = f"{_MORE_SPACE}; mkfs decides how many a file system has"
    if not free:
        return fail(name, f"{found}: no file can be created", cure)
    if free * 10 < total:
        return warn(name, f"{found}, which is low: each chunk takes one", cure)
    return ok(name, found)
