"""The queue: with Redis, the server that keeps the stream and the relay; without, that no chunk
waits for a relay."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import psycopg

from ingest_api.database import pool, queries
from ingest_api.database.session import TransactionPooling
from ingest_api.doctor.database import ANSWER_SECONDS
from ingest_api.doctor.findings import Finding, fail, ok, warn
from ingest_api.doctor.settings import Reading
from ingest_api.models.queue import UploadedCount
from ingest_api.settings import Settings
from ingest_api.stream.client import STREAM, StreamError, connect, failures_told

OLDEST_REDIS = 7
LATE_SECONDS = 60


def check_queue(reading: Reading) -> Iterator[Finding]:
    if reading.lacks("QUEUE_BACKEND"):
        return
    uses_redis = reading.settings.queue_backend == "redis"
    if uses_redis and not reading.lacks("REDIS_URL"):
        yield from _check_redis(reading.settings)
    uploaded = None if reading.lacks("DATABASE_URL") else _count_uploaded(reading.settings)
    if uploaded:
        yield judge_relay(uploaded) if uses_redis else judge_left_over(uploaded)


def _check_redis(settings: Settings) -> Iterator[Finding]:
    try:
        with (
            closing(connect(settings, seconds=ANSWER_SECONDS)) as client,
            failures_told(settings),
        ):
            info = client.info("everything")
            groups = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
            length = client.xlen(STREAM)
    except StreamError as error:
        cure = "start Redis, or correct REDIS_URL; until then uploads get queued: false"
        yield fail("Redis", f"is unusable: {error}", cure)
        return
    yield ok("Redis", "answers")
    yield judge_version(str(info.get("redis_version", "0")))
    yield judge_memory(info)
    yield judge_persistence(info)
    yield judge_groups(len(groups), length)


def _count_uploaded(settings: Settings) -> UploadedCount | None:
    """Return the chunks left UPLOADED; None if the database fails, which another check reports."""
    try:
        with closing(pool.connect(settings, seconds=ANSWER_SECONDS)) as connection:
            return queries.stream.count_uploaded(connection)
    except (psycopg.Error, TransactionPooling):
        return None


def judge_version(version: str) -> Finding:
    """Judge `redis_version`, in which Valkey names the Redis version that it is compatible with."""
    name, found = "Redis version", f"is {version}"
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        return warn(name, f"{found}, which is untested", "use Redis 7 or Valkey 8 or newer")
    return ok(name, found)


def judge_memory(info: Mapping[str, Any]) -> Finding:
    name, limit = "Redis memory", int(info.get("maxmemory", 0))
    policy = info.get("maxmemory_policy", "")
    if not limit:
        return ok(name, "has no limit (maxmemory)")
    if policy != "noeviction":
        return warn(
            name,
            f"maxmemory-policy is {policy}: when memory is short the stream may be evicted",
            "redis-cli CONFIG SET maxmemory-policy noeviction, also in the configuration file",
        )
    found = f"{int(info.get('used_memory', 0)) * 100 // limit} % of maxmemory are used"
    if int(info.get("used_memory", 0)) * 10 > limit * 9:
        cure = "check that the consumers keep up, or raise maxmemory"
        return warn(name, f"{found}; at 100 % nothing is announced", cure)
    return ok(name, found)


def judge_persistence(info: Mapping[str, Any]) -> Finding:
    name = "Redis persistence"
    if not int(info.get("aof_enabled", 0)):
        return warn(
            name,
            "appendonly is off: a restart loses the stream and its consumer groups, and "
            "all unfinished chunks are announced again",
            "redis-cli CONFIG SET appendonly yes, also in the configuration file",
        )
    return ok(name, "appendonly is on")


def judge_groups(groups: int, length: int) -> Finding:
    name, found = "Redis stream", f"{STREAM} has {length} entries and {groups} consumer groups"
    if length and not groups:
        cure = f"XGROUP CREATE {STREAM} workers 0, or set QUEUE_BACKEND=postgres"
        return warn(name, f"{found}: without a group no entry is ever removed", cure)
    return ok(name, found)


def judge_relay(uploaded: UploadedCount) -> Finding:
    found = f"{uploaded.chunks} chunks are waiting to be announced"
    if uploaded.oldest_seconds > LATE_SECONDS:
        message = f"{found}, the oldest for {uploaded.oldest_seconds:.0f} s"
        return warn("relay", message, "start flask ingest relay; its log says what fails")
    return ok("relay", found)


def judge_left_over(uploaded: UploadedCount) -> Finding:
    name, found = "queue", f"{uploaded.chunks} chunks are UPLOADED"
    if uploaded.chunks:
        message = f"{found}: with QUEUE_BACKEND=postgres nothing announces or queues them"
        return warn(name, message, "flask ingest requeue --all --status UPLOADED")
    return ok(name, "no chunk waits for a relay")
