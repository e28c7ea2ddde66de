"""What is sent, as text with the time of the recording left open (strftime(3)), so that whoever
sends it has little to do for each request.

How often, and over how many connections, does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lab.recorder import UPLOAD_PATH, Chunk, Recorder, upload_body, upload_headers
from soak_load import SPEECH

from upload_bench.recorders import CHUNK_SECONDS

TIMESTAMP = "%Y-%m-%dT%H:%M:%S+00:00"
PLACE = "%Y-%m-%d/%H/chunk_%Y%m%d_%H%M%S"
_SAMPLE = datetime(2026, 1, 28, 10, tzinfo=UTC)
_MARK = b"the sound is here"


@dataclass(frozen=True)
class Requests:
    """A request is `heads[device]`, its first part with the start of the recording and its second
    with the end, then the sound, then `tail`."""

    heads: Sequence[tuple[str, str]]
    tail: str
    accepted: tuple[int, ...]  # the statuses that mean success


def uploads(recorders: Iterable[Recorder]) -> Requests:
    """Those of recorders to the service."""
    heads, tail = [], ""
    for recorder in recorders:
        first, second, tail = _upload(recorder)
        heads.append((first, second))
    return Requests(heads, tail, (200,))


def _upload(recorder: Recorder) -> tuple[str, str, str]:
    body = upload_body(recorder, Chunk(_SAMPLE, _MARK, seconds=CHUNK_SECONDS))
    headers = upload_headers(recorder, len(body) - len(_MARK) + SPEECH.stat().st_size)
    form, _, tail = body.partition(_MARK)
    head = _head("POST", UPLOAD_PATH, headers) + form.decode()
    assert "%" not in head
    end = (_SAMPLE + timedelta(seconds=CHUNK_SECONDS)).isoformat()
    first, second = head.replace(_SAMPLE.isoformat(), TIMESTAMP).split(end)
    return first, TIMESTAMP + second, tail.decode()


def puts(recorders: Iterable[Recorder], prefix: str, accepted: tuple[int, ...]) -> Requests:
    """The same files, put by a plain PUT below `prefix`, to the places that the service would give
    them."""
    length = {"Content-Length": str(SPEECH.stat().st_size)}
    heads = [
        (_head("PUT", f"{prefix}/{folder_of(who)}/{PLACE}_{who.device_id}.ogg", length), "")
        for who in recorders
    ]
    return Requests(heads, "", accepted)


def folder_of(recorder: Recorder) -> str:
    """Where its recordings are, relative to AUDIO_STORAGE_DIR."""
    return f"audio/{recorder.point_id}/{recorder.register_id}"


def _head(method: str, path: str, headers: dict[str, str]) -> str:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
