"""The list of the files in a backup, one a line: path <tab> size <tab> SHA-256 in hex, if known.

Lines are sorted by their bytes, as `LC_ALL=C sort` does, so that lists of any length are compared
line by line and never read as a whole. In a path, backslashes and control characters are written
like `\\x5c`: so a path is one line, and lines sort as their paths do.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from ingest_api.errors import OperatorError
from ingest_api.models.backups import ListedFile
from ingest_api.storage.disk.folders import sync_path


class BackupError(OperatorError):
    """The reason why a backup cannot be made or restored."""


def format_line(file: ListedFile) -> bytes:
    return b"%s\t%d\t%s" % (escape(file.path), file.size, (file.sha256 or b"").hex().encode())


def parse_line(line: bytes) -> ListedFile:
    """Return the file that a line describes. Raise BackupError if the line is malformed."""
    try:
        path, size, sha256 = line.split(b"\t")
        return ListedFile(unescape(path), int(size), bytes.fromhex(sha256.decode()) or None)
    except ValueError:
        raise BackupError(f"A list of files is damaged, at the line {line!r}") from None


def escape(path: str) -> bytes:
    return re.sub(rb"[\\\x00-\x1f\x7f]", lambda c: b"\\x%02x" % c[0][0], os.fsencode(path))


def unescape(path: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\x([0-9a-f]{2})", lambda c: bytes([int(c[1], 16)]), path))


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines. Raise BackupError if they are not sorted, which comparisons rely on."""
    before = b""
    with path.open("rb") as file:
        for line in file:
            if line < before:
                raise BackupError(f"{path} is damaged: it is not sorted")
            before = line
            yield line.removesuffix(b"\n")


def read_paths(path: Path) -> Iterator[bytes]:
    """Yield the paths in a list, still escaped."""
    for line in read_lines(path):
        yield line.partition(b"\t")[0]


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write the lines, and return their number."""
    number = 0
    with path.open("wb") as file:
        for line in lines:
            file.write(line + b"\n")
            number += 1
    return number


def write_sorted(path: Path, lines: Iterable[bytes]) -> int:
    """Write each line once, sorted, and return how many lines were given. The file is whole and
    durable, or does not exist. sort(1) keeps it out of memory."""
    unsorted, result = path.with_suffix(".unsorted"), path.with_suffix(".sorted")
    number = write_lines(unsorted, lines)
    command = ["sort", "--unique", "--buffer-size=64M", f"--temporary-directory={path.parent}"]
    run = subprocess.run(
        [*command, f"--output={result}", str(unsorted)],
        env=os.environ | {"LC_ALL": "C"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode:
        raise BackupError(f"The list of files could not be sorted: {run.stderr.strip()}")
    unsorted.unlink()
    sync_path(result)
    result.replace(path)
    sync_path(path.parent)
    return number


def without(lines: Iterable[bytes], others: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines that are not among the others; both are sorted."""
    others = iter(others)
    other = next(others, None)
    for line in lines:
        while other is not None and other < line:
            other = next(others, None)
        if line != other:
            yield line


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
