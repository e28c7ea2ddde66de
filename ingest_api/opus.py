"""What the pages of an OGG/Opus recording say of it (RFC 3533, section 6; RFC 7845, section 5)."""

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_PAGE = struct.Struct("<4s2xqI8xB")  # magic, granule position, serial number, number of segments
_HEAD = struct.Struct("<8sxBHI")  # magic, channels, samples to skip, input sample rate
_RATE = 48_000  # Hz, of granule positions, whatever the recording's own rate
_FRAME = 960  # samples of a packet, as encoders make them: 20 ms
_LONGEST = 24 * 3600.0  # seconds; more is no recording of a minute


@dataclass(frozen=True)
class Audio:
    """What a recording says of itself."""

    seconds: float  # exact if its pages are equally long, else to one page
    sample_rate: int  # Hz
    channels: int


@dataclass(frozen=True)
class _Page:
    position: int  # samples until its end; -1: no packet ends on it
    packets: int
    body: bytes  # of a stream's first page; else empty


def read_audio(file: BinaryIO) -> Audio:
    """Return what a recording says of itself. ValueError if it is no OGG/Opus, or has no audio."""
    pages = _pages(file)
    channels, skipped, rate = _head(next(pages, None))
    audio = (page for page in pages if page.position > 0)
    first = next(audio, None)
    if first is None:
        raise ValueError("there is no audio behind the headers")
    second = next(audio, None)
    length = second.position - first.position if second else _FRAME * first.packets
    begin = max(0, first.position - length)  # it may be cut from a longer stream
    *_, last = deque(audio, maxlen=1) or [second or first]
    seconds = (last.position - begin - (0 if begin else skipped)) / _RATE
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"it says that it lasts {seconds:.0f} s")
    return Audio(seconds, rate or _RATE, channels)


def _head(page: _Page | None) -> tuple[int, int, int]:
    if page is None or len(page.body) < _HEAD.size or not page.body.startswith(b"OpusHead"):
        raise ValueError("it is no OGG/Opus recording")
    _, channels, skipped, rate = _HEAD.unpack_from(page.body)
    if not channels:
        raise ValueError("it has no channels")
    return channels, skipped, rate


def _pages(file: BinaryIO) -> Iterator[_Page]:
    """Yield the pages of the first stream, as far as they are whole."""
    serial = None
    while len(header := file.read(_PAGE.size)) == _PAGE.size:
        magic, position, number, segments = _PAGE.unpack(header)
        table = file.read(segments)
        if magic != b"OggS" or len(table) < segments:
            return
        if serial is None:
            serial = number
            yield _Page(position, 0, file.read(sum(table)))
            continue
        file.seek(sum(table), 1)
        if number == serial:
            yield _Page(position, sum(size < 255 for size in table), b"")
