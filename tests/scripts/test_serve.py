"""`./scripts/serve`: from nothing to an upload, and nothing left afterwards."""

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests
from lab.service import free_port
from support.commands import flask_ingest
from support.processes import descendants_of, eventually, is_alive
from support.recorder import SPEECH
from support.service import clean_environ
from support.valkey import LocalValkey

ROOT = Path(__file__).parents[2]


class Serve:
    """The supervisor behind scripts/serve, which itself only installs first."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {"DATA_DIR": str(folder / "data"), "PORT": str(self.port)} | settings
        self.settings = {"MIN_FREE_BYTES": "1048576", "WORKERS": "2"} | self.settings

    def start(self) -> "Serve":
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "serve.py")],
            env=clean_environ(**self.settings),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "log").open("ab"),
            text=True,
            # As for a shell's job in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if "Ctrl-C stops everything" in line:
                return self
        raise AssertionError(self.output + (self.folder / "log").read_text())

    def all_processes(self) -> list[int]:
        return [self.process.pid, *descendants_of(self.process.pid)]

    def end(self, signum: int) -> int:
        everything = self.all_processes()
        assert len(everything) >= 5  # itself, PostgreSQL, gunicorn and workers
        self.process.send_signal(signum)
        status = self.process.wait(30)
        eventually(lambda: not [pid for pid in everything if is_alive(pid)], 20)
        return status


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    made = Serve(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end(signal.SIGTERM)


def _run_printed_curl(output: str) -> dict[str, object]:
    [command] = re.findall(r"curl -sS -H [^\n]*/chunks", output)
    result = subprocess.run(
        shlex.split(command), cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)


def test_the_printed_upload_works_and_data_survive_a_restart(serve: Serve) -> None:
    serve.start()
    assert requests.get(f"{serve.url}/health").json()["status"] == "ok"
    receipt = _run_printed_curl(serve.output)
    assert receipt["duplicate"] is False
    stored = serve.folder / "data" / "audio" / str(receipt["stored_path"])
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(SPEECH).digest()
    assert serve.end(signal.SIGTERM) == 0
    serve.start()
    assert _run_printed_curl(serve.output)["duplicate"] is True
    assert serve.end(signal.SIGINT) == 0


def _run_printed_worker(output: str, *more: str, **environ: str) -> str:
    [command] = re.findall(r"[^\n]*/example-worker [^\n]*", output)
    result = subprocess.run(
        ["bash", "-c", " ".join([command, *more])],
        env=clean_environ(**environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return result.stdout


def _find(processes: list[int], name: bytes) -> int:
    """The first of them that runs this."""
    return next(pid for pid in processes if name in Path(f"/proc/{pid}/cmdline").read_bytes())


def test_the_printed_worker_finishes_the_printed_upload(serve: Serve) -> None:
    serve.start()
    chunk_id = _run_printed_curl(serve.output)["chunk_id"]
    assert f"{chunk_id} DONE: 60.00 s of 60 s" in _run_printed_worker(serve.output)
    token = serve.folder / "data" / "demo-internal-token"
    assert token.stat().st_mode & 0o777 == 0o600
    kept = token.read_text()
    serve.end(signal.SIGTERM)
    serve.start()
    assert token.read_text() == kept
    assert _run_printed_worker(serve.output) == ""


def test_a_token_of_the_users_own_is_used_and_not_printed(serve: Serve) -> None:
    serve.settings["INTERNAL_TOKEN"] = "a-token-of-my-own"
    serve.start()
    chunk_id = _run_printed_curl(serve.output)["chunk_id"]
    assert "a-token-of-my-own" not in serve.output
    done = _run_printed_worker(serve.output, INTERNAL_TOKEN="a-token-of-my-own")
    assert f"{chunk_id} DONE" in done
    assert not (serve.folder / "data" / "demo-internal-token").exists()


def test_with_redis_the_relay_runs_as_well(serve: Serve, valkey: LocalValkey) -> None:
    serve.settings |= {"QUEUE_BACKEND": "redis", "REDIS_URL": valkey.url}
    serve.start()
    assert "The relay runs as well" in serve.output
    valkey.kill()
    chunk_id = _run_printed_curl(serve.output)["chunk_id"]  # and nobody hears of it
    valkey.start()
    stream = redis.Redis.from_url(valkey.url)
    eventually(lambda: stream.exists("ingest:chunks"))
    done = _run_printed_worker(serve.output, "--redis", REDIS_URL=valkey.url)
    assert f"{chunk_id} DONE" in done
    everything = serve.all_processes()
    os.kill(_find(everything, b"\0relay"), signal.SIGKILL)
    assert serve.process.wait(20) == 1
    eventually(lambda: not [pid for pid in everything if is_alive(pid)], 20)
    assert "the relay stopped by itself" in (serve.folder / "log").read_text()


def test_nothing_outlives_a_kill(serve: Serve) -> None:
    serve.start()
    assert serve.end(signal.SIGKILL) == -signal.SIGKILL
    serve.start()  # and the data are in order
    _run_printed_curl(serve.output)


def test_it_stops_when_a_part_dies(serve: Serve) -> None:
    serve.start()
    everything = serve.all_processes()
    os.kill(_find(everything, b"gunicorn"), signal.SIGKILL)
    assert serve.process.wait(20) == 1
    eventually(lambda: not [pid for pid in everything if is_alive(pid)], 20)
    assert "gunicorn stopped by itself" in (serve.folder / "log").read_text()


def test_with_a_database_url_no_server_is_started(tmp_path: Path, database_url: str) -> None:
    serve = Serve(tmp_path, DATABASE_URL=database_url).start()
    try:
        assert "flask ingest add-device" in serve.output
        assert "first set INTERNAL_TOKEN" in serve.output
        assert not (tmp_path / "data" / "demo-internal-token").exists()
        assert flask_ingest(database_url, "list-devices", "--json").stdout == "[]\n"
        assert not (tmp_path / "data" / "postgres").exists()
        assert requests.get(f"{serve.url}/health").json()["status"] == "ok"
    finally:
        serve.process.terminate()
        assert serve.process.wait(20) == 0


def test_bad_settings_stop_it_with_the_services_own_sentence(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="LOG_LEVEL: must be one of"):
        Serve(tmp_path, LOG_LEVEL="LOUD").start()
