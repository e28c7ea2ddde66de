"""The sound that recorders send: real speech in a few lengths, shared by all of them. What makes a
chunk's bytes its own does not belong here."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soak_load import SPEECH

SHORTEST_SECONDS = 55
_PAGE_HEAD = struct.Struct("<4sBBqIIIB")  # RFC 3533, section 6
_CLOCK = 48_000  # of Ogg Opus, whatever the sample rate: RFC 7845, section 4


@dataclass(frozen=True)
class Sound:
    """A recording that may be played, and how long it takes."""

    data: bytes
    seconds: int
    _hash: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hashlib.sha256(self.data))

    def sha256_with(self, tail: bytes) -> bytes:
        """Of the sound and a tail, without reading the sound again."""
        found = self._hash.copy()
        found.update(tail)
        digest: bytes = found.digest()
        return digest


def sounds(path: Path = SPEECH) -> tuple[Sound, ...]:
    """The file cut off at page after page, a second apart: recordings are not of the same length
    in the field."""
    data = path.read_bytes()
    return tuple(
        Sound(data[:end], seconds)
        for end, seconds in _pages(data)
        if seconds >= SHORTEST_SECONDS and end < len(data)
    )


def _pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each page ends, and the second that the sound has come to by then."""
    offset = 0
    while offset < len(data):
        head = _PAGE_HEAD.unpack_from(data, offset)
        sizes = data[offset + _PAGE_HEAD.size :][: head[-1]]
        offset += _PAGE_HEAD.size + len(sizes) + sum(sizes)
        yield offset, head[3] // _CLOCK
