"""How long an OGG/Opus recording is, for `worker.measure`."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mutagen.ogg import OggPage
from mutagen.oggopus import OggOpus

_RATE = 48000  # of granule positions, whatever the recording's own rate
_FRAME_SAMPLES = [
    *[480, 960, 1920, 2880] * 3,  # SILK
    *[480, 960] * 2,  # hybrid
    *[120, 240, 480, 960] * 4,  # CELT
]
"""By the configuration in a packet's first byte (RFC 6716, section 3.1)."""
_NONE_ENDS = -1  # the granule position of a page on which no packet ends


def seconds_of_audio(file: Path) -> float:
    """Return the duration of a recording. ValueError if it has no audio.

    Its granule positions may begin anywhere: a recorder may cut one long stream (RFC 7845,
    section 4).
    """
    info: Any = OggOpus(file).info  # type: ignore[no-untyped-call]
    with file.open("rb") as opened:
        begin = _first_position(_pages(opened, info.serial))
    seconds = float(info.length) - begin / _RATE
    if seconds <= 0:
        raise ValueError("there is no audio behind the headers")
    return seconds


def _pages(file: IO[bytes], serial: int) -> Iterator[Any]:
    """Yield the pages of one stream."""
    while True:
        try:
            page: Any = OggPage(file)  # type: ignore[no-untyped-call]
        except EOFError:
            return
        if page.serial == serial:
            yield page


def _first_position(pages: Iterator[Any]) -> int:
    """Return the granule position at which the audio begins."""
    for page in pages:
        if page.complete and not page.first:  # here the tags end
            break
    first = []
    for page in pages:
        first.append(page)
        if page.position != _NONE_ENDS:
            break
    else:
        return 0
    packets = OggPage.to_packets(first, strict=False)  # type: ignore[no-untyped-call]
    whole = packets if first[-1].complete else packets[:-1]
    # A stream that ends on its first page may be cut there: then it begins at 0.
    return max(0, int(first[-1].position) - sum(map(_samples, whole)))


def _samples(packet: bytes) -> int:
    """Return how many samples a packet stands for."""
    if not packet:
        return 0
    code = packet[0] & 3
    frames = {0: 1, 1: 2, 2: 2}.get(code) or (packet[1] & 63 if len(packet) > 1 else 0)
    return frames * _FRAME_SAMPLES[packet[0] >> 3]
