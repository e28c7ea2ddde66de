"""`./scripts/simulate-fleet` in short: recorders as in the field, and a verdict that can be bad."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from lab.service import free_port
from support.processes import eventually
from support.service import ADMIN_TOKEN, INTERNAL_TOKEN, Service, clean_environ

ROOT = Path(__file__).parent.parent
FAST = ("--every=1", "--seed=7", "--json")
Start = Callable[..., "Fleet"]


class Fleet:
    """The program behind scripts/simulate-fleet, which itself only installs first."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fleet", *arguments],
            env=clean_environ(TMPDIR=str(folder), PYTHONPATH=str(ROOT / "scripts"), **environ),
            cwd=folder,  # where no .env is
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, dict[str, Any], str]:
        """Its exit status, what it found, and what it complained about."""
        output, complaints = self.process.communicate(timeout=60)
        print(output, complaints)
        return self.process.returncode, json.loads(output or "{}"), complaints


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a fleet whose temporary folder is `tmp_path`."""
    started: list[Fleet] = []

    def start_one(*arguments: str, **environ: str) -> Fleet:
        started.append(Fleet(tmp_path, *arguments, **environ))
        return started[-1]

    yield start_one
    for fleet in started:
        fleet.process.kill()
        fleet.process.communicate()


def _devices(service: Service) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    devices = requests.get(f"{service.url}/api/v1/admin/devices", headers=headers, timeout=5).json()
    return [device for device in devices if device["device_id"].startswith("f1ee7")]


DEVICES = 4


def _stored(folder: Path, count: int) -> list[Path]:
    """So many recordings whose uploads are over: each device has one under way at most, and an
    upload that finds its file gone puts it back."""

    def oldest() -> list[Path]:
        with suppress(FileNotFoundError):  # a PostgreSQL that is being made is there, too
            files = sorted(folder.rglob("chunk_*.ogg"), key=lambda file: file.stat().st_mtime)
            return files[:count] if len(files) >= count + DEVICES else []
        return []

    found: list[Path] = eventually(oldest, 30)
    return found


def test_nothing_is_lost_whatever_the_recorders_go_through(start: Start, tmp_path: Path) -> None:
    shares = ["drop-outs=0.3", "hang-ups=0.1", "lost-answers=0.1", "reboots=0.1"]
    shares += ["slow-links=0.25", "wrong-clocks=0.5"]
    troubles = [f"--{share}" for share in shares]
    status, found, _ = start(*FAST, "--devices=16", "--minutes=0.12", *troubles).end()
    assert (status, found["clean"], found["examples"]) == (0, True, [])
    assert found["acknowledged"] == found["recorded"] > 50
    assert found["details"]["fsck"]["rows"] == found["acknowledged"]
    assert found["events"].keys() >= {
        *("drop-outs", "outages", "hang-ups", "lost answers", "reboots", "uploads cut off"),
        *("clocks set back", "clocks set by NTP"),
    }
    assert found["wrong_clocks"].keys() == {"ahead", "behind", "1970 until NTP sets it"}
    assert found["duplicates"] and found["hung_up"]
    assert found["slow_milliseconds"]["uploads"]
    assert found["slow_milliseconds"]["p50"] > 400  # at twice the pace of the recording
    assert found["longest_spool"] > 1
    assert list(tmp_path.iterdir()) == []  # the throw-away folder is gone


def test_calm_recorders_send_each_chunk_once(start: Start, service: Service) -> None:
    tokens = {"ADMIN_TOKEN": ADMIN_TOKEN, "INTERNAL_TOKEN": INTERNAL_TOKEN}
    arguments = (f"--url={service.url}", "--devices=5", "--minutes=0.04", "--calm")
    status, found, _ = start(*FAST, *arguments, **tokens).end()
    assert (status, found["examples"], found["events"]) == (0, [], {})
    assert found["sent"] == found["acknowledged"] > 5
    assert found["milliseconds"]["uploads"] == found["sent"]


def test_sigterm_gives_the_verdict_and_leaves_no_open_door(start: Start, service: Service) -> None:
    fleet = start(*FAST, f"--url={service.url}", "--minutes=10", ADMIN_TOKEN=ADMIN_TOKEN)
    eventually(lambda: [d for d in _devices(service) if d["is_enabled"] and d["last_seen_at"]])
    fleet.process.send_signal(signal.SIGTERM)
    status, found, _ = fleet.end()
    assert (status, found["clean"], found["stuck"]) == (0, True, 0)
    assert found["acknowledged"] == found["recorded"] > 0
    assert "sent again" in found["asked"][-1]
    assert not any(device["is_enabled"] for device in _devices(service))
    left = found["left_behind"]
    assert (left["devices"], left["devices_not_disabled"]) == (50, [])
    assert set(left["points"]) <= {device["point_id"] for device in _devices(service)}


def test_a_file_that_is_gone_is_seen_by_the_site(start: Start, tmp_path: Path) -> None:
    fleet = start(*FAST, f"--devices={DEVICES}", "--minutes=10", "--calm")
    _stored(tmp_path, 1)[0].unlink()
    fleet.process.send_signal(signal.SIGINT)
    status, found, _ = fleet.end()
    assert (status, found["clean"]) == (1, False)
    assert (found["lost"], found["damaged"], found["double"], found["stuck"]) == (1, 1, 0, 0)
    assert found["details"]["fsck"]["missing_file"] == 1
    assert Path(found["folder"], "postgres").is_dir()  # kept, to look at it


def test_damage_is_seen_by_http(start: Start, start_service: Callable[..., Service]) -> None:
    service = start_service()
    tokens = {"ADMIN_TOKEN": ADMIN_TOKEN, "INTERNAL_TOKEN": INTERNAL_TOKEN}
    arguments = (f"--url={service.url}", f"--devices={DEVICES}", "--minutes=10", "--calm")
    fleet = start(*FAST, *arguments, **tokens)
    gone, changed, forgotten = _stored(service.storage, 3)
    gone.unlink()
    changed.write_bytes(bytes(changed.stat().st_size))
    with service.connect() as connection:
        where = "file_path LIKE '%%' || %s"
        connection.execute(f"DELETE FROM audio_chunks WHERE {where}", [forgotten.name])
    fleet.process.terminate()
    status, found, _ = fleet.end()
    assert (status, found["clean"]) == (1, False)
    # The file of what is forgotten cannot be had either.
    assert (found["lost"], found["damaged"], found["stuck"]) == (1, 3, 0)


def test_a_lost_row_is_seen_without_the_internal_token(
    start: Start, start_service: Callable[..., Service]
) -> None:
    service = start_service()
    arguments = (f"--url={service.url}", f"--devices={DEVICES}", "--minutes=10", "--calm")
    fleet = start(*FAST, *arguments, ADMIN_TOKEN=ADMIN_TOKEN)
    _stored(service.storage, 1)
    fleet_rows = "(SELECT chunk_id FROM audio_chunks ORDER BY created_at LIMIT 1)"
    with service.connect() as connection:
        connection.execute(f"DELETE FROM audio_chunks WHERE chunk_id IN {fleet_rows}")
    fleet.process.terminate()
    status, found, _ = fleet.end()
    assert (status, found["lost"], found["double"]) == (1, 1, 0)


def test_a_refused_token_is_told_with_what_to_do(start: Start, service: Service) -> None:
    status, _, complaints = start(f"--url={service.url}", ADMIN_TOKEN="x" * 20).end()
    assert status == 2
    assert "401" in complaints
    assert "ADMIN_TOKEN_FILE" in complaints
    arguments = {"ADMIN_TOKEN": ADMIN_TOKEN, "INTERNAL_TOKEN": "x" * 20}
    status, _, complaints = start(f"--url={service.url}", **arguments).end()
    assert status == 2
    assert "INTERNAL_TOKEN" in complaints


def test_a_service_that_is_not_there_is_told(start: Start, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    status, _, complaints = start(f"--url={url}", "--devices=2").end()
    assert status == 2
    assert f"no answer from {url}" in complaints
    assert list(tmp_path.iterdir()) == []


def test_the_published_admin_token_is_sent_to_this_machine_only(start: Start) -> None:
    status, _, complaints = start("--url=http://ingest.example", "--devices=2").end()
    assert status == 2
    assert "Set ADMIN_TOKEN" in complaints


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("--devices=0", "at least 1"),
        ("--devices=inf", "whole number"),
        ("--devices=many", "must be a number"),
        ("--minutes=-1", "above 0"),
        ("--every=nan", "above 0"),
        ("--drop-outs=2", "from 0 to 1"),
        ("--url=ftp://example", "must be like http://"),
        ("--url=http://127.0.0.1:8000/api", "without a path"),
        ("--no-such-thing", "unrecognized"),
    ],
)
def test_a_bad_option_is_refused(start: Start, argument: str, complaint: str) -> None:
    status, _, complaints = start(argument).end()
    assert status == 2
    assert complaint in complaints
