"""`flask ingest doctor`, of Redis and the relay."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from support.commands import flask_ingest
from support.valkey import LocalValkey

from ingest_api.models.devices import NewDevice
from ingest_api.stream.client import STREAM
from ingest_api.tokens import generate_token
from ingest_api.usecases import devices

Findings = dict[str, dict[str, str]]


def _diagnose(folder: Path, url: str, **settings: str) -> Findings:
    """What the doctor finds, by name."""
    (folder / "storage").mkdir(exist_ok=True)
    settings |= {"AUDIO_STORAGE_DIR": str(folder / "storage"), "HOST": "127.0.0.1"}
    result = flask_ingest(url, "doctor", "--json", cwd=folder, **settings)
    assert "Traceback" not in result.stderr
    assert "secret-word" not in result.stdout + result.stderr
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def _of_redis(folder: Path, url: str, redis_url: str) -> Findings:
    return _diagnose(folder, url, QUEUE_BACKEND="redis", REDIS_URL=redis_url)


def _assert_finds(found: Findings, name: str, level: str, phrase: str, advice: str = "") -> None:
    assert found[name]["level"] == level, found[name]
    assert phrase in found[name]["message"]
    assert advice in found[name]["advice"]
    assert bool(found[name]["advice"]) is (level != "ok")


def _store_uploaded(url: str, *, age: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        ids = dict.fromkeys(("device_id", "point_id", "register_id"), "0" * 32)
        devices.create_device(connection, NewDevice(**ids), token=generate_token())  # type: ignore[arg-type]
        connection.execute(
            "INSERT INTO audio_chunks (chunk_id, device_id, point_id, register_id, start_ts,"
            "  end_ts, duration_sec, codec, sample_rate, channels, file_path, file_size_bytes,"
            "  status, created_at)"
            " VALUES (gen_random_uuid(), %(device_id)s, %(point_id)s, %(register_id)s, now(),"
            "  now(), 60, 'opus', 48000, 1, 'audio/1', 1, 'UPLOADED', now() - %(age)s::interval)",
            ids | {"age": age},
        )


def test_a_redis_as_it_should_be(
    tmp_path: Path, database_url: str, start_valkey: Callable[..., LocalValkey]
) -> None:
    settings = {"appendonly": "yes", "maxmemory": "100mb", "requirepass": "secret-word"}
    found = _of_redis(tmp_path, database_url, start_valkey(settings).url)
    _assert_finds(found, "Redis", "ok", "answers")
    _assert_finds(found, "Redis version", "ok", "is 7.")
    _assert_finds(found, "Redis memory", "ok", "% of maxmemory are used")
    _assert_finds(found, "Redis persistence", "ok", "appendonly is on")
    _assert_finds(found, "Redis stream", "ok", f"{STREAM} has 0 entries")
    _assert_finds(found, "relay", "ok", "0 chunks are waiting to be announced")
    assert "queue" not in found


def test_a_redis_that_forgets_is_told(
    tmp_path: Path, database_url: str, start_valkey: Callable[..., LocalValkey]
) -> None:
    valkey = start_valkey({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"})
    client = redis.Redis.from_url(valkey.url)
    client.xadd(STREAM, {"chunk_id": "1"})
    found = _of_redis(tmp_path, database_url, valkey.url)
    _assert_finds(found, "Redis memory", "warn", "allkeys-lru", "maxmemory-policy noeviction")
    _assert_finds(found, "Redis persistence", "warn", "appendonly is off", "appendonly yes")
    _assert_finds(found, "Redis stream", "warn", "1 entries and 0 consumer groups", "XGROUP CREATE")
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("appendonly", "yes")
    client.xgroup_create(STREAM, "workers", id="0")
    found = _of_redis(tmp_path, database_url, valkey.url)
    for name in ("Redis memory", "Redis persistence", "Redis stream"):
        _assert_finds(found, name, "ok", "")


def test_a_redis_that_is_nearly_full_is_told(
    tmp_path: Path, database_url: str, valkey: LocalValkey
) -> None:
    client = redis.Redis.from_url(valkey.url)
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]))
    found = _of_redis(tmp_path, database_url, valkey.url)
    _assert_finds(found, "Redis memory", "warn", "nothing is announced", "raise maxmemory")


@pytest.mark.parametrize(
    ("url", "phrase"),
    [
        ("redis://:secret-word@127.0.0.1:1/0", "refused"),
        ("redis://:secret-word@127.0.0.1:{}/0", "password"),
        ("redis://no-such-host.invalid:6379/0", "no-such-host.invalid"),
    ],
)
def test_a_redis_of_no_use_is_a_failure_and_ends_no_other_check(
    tmp_path: Path,
    database_url: str,
    start_valkey: Callable[..., LocalValkey],
    url: str,
    phrase: str,
) -> None:
    valkey = start_valkey({"requirepass": "another-word"})
    found = _of_redis(tmp_path, database_url, url.format(valkey.port))
    _assert_finds(found, "Redis", "fail", phrase, "correct REDIS_URL")
    assert "Redis version" not in found
    _assert_finds(found, "relay", "ok", "0 chunks")
    assert "clock" in found


def test_a_key_of_another_program_is_a_failure(
    tmp_path: Path, database_url: str, valkey: LocalValkey
) -> None:
    redis.Redis.from_url(valkey.url).set(STREAM, "another program's")
    found = _of_redis(tmp_path, database_url, valkey.url)
    _assert_finds(found, "Redis", "fail", f"another program uses the key {STREAM}")


def test_a_relay_that_does_not_run_is_told(
    tmp_path: Path, database_url: str, valkey: LocalValkey
) -> None:
    _store_uploaded(database_url, age="1 hour")
    found = _of_redis(tmp_path, database_url, valkey.url)
    _assert_finds(found, "relay", "warn", "the oldest for 36", "start flask ingest relay")


def test_what_nobody_queues_is_told(tmp_path: Path, database_url: str) -> None:
    _assert_finds(_diagnose(tmp_path, database_url), "queue", "ok", "no chunk waits")
    _store_uploaded(database_url, age="0 s")
    found = _diagnose(tmp_path, database_url)
    _assert_finds(found, "queue", "warn", "1 chunks", "requeue --all --status UPLOADED")
    assert not any(name.startswith("Redis") for name in found)


@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({"QUEUE_BACKEND": "kafka"}, {"Redis", "relay", "queue"}),
        ({"QUEUE_BACKEND": "redis", "REDIS_URL": "http://host"}, {"Redis", "queue"}),
    ],
)
def test_what_hangs_on_a_faulty_setting_is_left_out(
    tmp_path: Path, database_url: str, settings: Any, absent: set[str]
) -> None:
    assert not absent & _diagnose(tmp_path, database_url, **settings).keys()


def test_without_a_database_nothing_is_said_of_the_relay(
    tmp_path: Path, valkey: LocalValkey
) -> None:
    found = _of_redis(tmp_path, "postgresql://127.0.0.1:1/none", valkey.url)
    _assert_finds(found, "Redis", "ok", "answers")
    assert "relay" not in found
