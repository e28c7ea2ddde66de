"""The stream in Redis: its name, its entries, their removal, the connection and its errors.
announcer.py and relay.py decide which chunk is announced, and when.

`redis` is an optional extra, and so imported only where it is used.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from ingest_api.errors import OperatorError
from ingest_api.models.chunks import Chunk
from ingest_api.schemas.fields import rfc3339
from ingest_api.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

STREAM = "ingest:chunks"

KEPT_SECONDS = 300
"""Entries stay at least this long: after a loss of Redis each group must be created anew, and until
then `trim` does not know of it."""

_INSTALL = "run: pip install 'ingest-api[redis]'"


class StreamError(OperatorError):
    """Redis accepts no announcements; the reason is one line without the password."""


def entry(chunk: Chunk) -> dict[Any, Any]:
    """Return the fields of a chunk's entry, all text (deploy/README.md, "Redis")."""
    return {
        "chunk_id": str(chunk.chunk_id),
        "device_id": str(chunk.device_id),
        "point_id": str(chunk.point_id),
        "register_id": str(chunk.register_id),
        "start_ts": rfc3339(chunk.start_ts),
        "end_ts": rfc3339(chunk.end_ts),
        "duration_sec": str(chunk.duration_sec),
        "codec": chunk.codec,
        "sample_rate": str(chunk.sample_rate),
        "channels": str(chunk.channels),
        "file_path": chunk.file_path,
        "file_size_bytes": str(chunk.file_size_bytes),
        "sha256": chunk.sha256.hex() if chunk.sha256 else "",
    }


def connect(settings: Settings, *, seconds: float) -> "Redis":
    """Return a client of a Redis that has just answered. It waits `seconds` at most for an answer,
    and retries nothing. StreamError."""
    try:
        from redis import Redis  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415
    except ImportError:
        raise StreamError("needs the extra `redis`", _INSTALL) from None
    with failures_told(settings):
        try:
            client = Redis.from_url(
                settings.redis_url,
                socket_connect_timeout=seconds,
                socket_timeout=seconds,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
                protocol=2,  # with 3, AUTH is a part of HELLO, which old servers quote in an error
            )
            client.ping()
        except (TypeError, ValueError):
            raise StreamError("REDIS_URL has a part that redis-py does not understand") from None
    return client


def add(client: "Redis", chunks: Sequence[Chunk], settings: Settings) -> list[StreamError | None]:
    """Announce chunks in one round trip; return for each its error, or None. StreamError: which of
    them are in the stream is unknown."""
    pipeline = client.pipeline(transaction=False)
    for chunk in chunks:
        pipeline.xadd(STREAM, entry(chunk))
    with failures_told(settings):
        replies = pipeline.execute(raise_on_error=False)
    return [
        _stream_error(reply, settings) if isinstance(reply, Exception) else None
        for reply in replies
    ]


def count_added(client: "Redis") -> int:
    """Return how many entries the stream has ever had; 0 if there is no stream."""
    if not client.exists(STREAM):
        return 0
    return int(client.xinfo_stream(STREAM)["entries-added"])


def trim(client: "Redis") -> None:
    """Remove entries that every group has acknowledged; without a group, none."""
    groups = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
    if groups:
        seconds, _ = client.time()
        kept = ((seconds - KEPT_SECONDS) * 1000, 0)
        first = min(kept, *(_first_unfinished(client, group) for group in groups))
        # By whole nodes of the stream: that costs Redis next to nothing and leaves a few more.
        client.xtrim(STREAM, minid=f"{first[0]}-{first[1]}", approximate=True)


def _first_unfinished(client: "Redis", group: Mapping[str, Any]) -> tuple[int, int]:
    """Return the entry id before which a group has acknowledged everything."""
    oldest = client.xpending(STREAM, group["name"])["min"] or group["last-delivered-id"]
    milliseconds, _, number = str(oldest).partition("-")
    return int(milliseconds), int(number)


@contextmanager
def failures_told(settings: Settings) -> Iterator[None]:
    """Raise StreamError in place of any failure of Redis or of the way to it."""
    from redis import RedisError  # noqa: PLC0415

    try:
        yield
    except (RedisError, OSError) as error:
        raise _stream_error(error, settings) from None


def _stream_error(error: Exception, settings: Settings) -> StreamError:
    text = " ".join(str(error).split()) or type(error).__name__
    if text.startswith("WRONGTYPE"):
        return StreamError(
            f"another program uses the key {STREAM}",
            "rename it there (RENAME), or give REDIS_URL a database of its own",
        )
    # A server quotes a command that it does not know, with its arguments.
    url = urlsplit(settings.redis_url)
    passwords = {unquote(url.password or ""), *parse_qs(url.query).get("password", [])}
    for password in passwords - {""}:
        text = text.replace(password, "***")
    return StreamError(text)
