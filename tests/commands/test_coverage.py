"""`flask ingest coverage`: what it draws, and a month of a fleet against what really happened."""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import requests
from support.commands import flask_ingest
from support.recorder import Recorder
from support.service import ADMIN_TOKEN, Service

from ingest_api.database import queries
from ingest_api.models.chunks import ChunkStatus, NewChunk, Recording
from ingest_api.usecases.uploads import new_chunk

ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
SECOND, MINUTE, HOUR, DAY = (
    timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days")
)
MONTH = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = 31
MIDDLE = MONTH + 15 * DAY
TABLE = "SELECT * FROM recorded_hours ORDER BY device_id, hour"


def test_a_day_is_drawn_in_lines_of_an_hour(service: Service) -> None:
    """The day on which clocks go back has 25."""
    recorder = service.recorder()
    point = str(recorder.device.point_id)
    for start, end in (("00:00:30", "00:58:00"), ("01:00:00", "04:10:00")):
        times = {"start_ts": f"2025-10-26T{start}Z", "end_ts": f"2025-10-26T{end}Z"}
        service.upload(recorder, start.encode(), **times)
    zone = ("--time-zone", "Europe/Berlin", "Köln 5")
    assert flask_ingest(service.database_url, "set-name", "--point", point, *zone).returncode == 0
    drawn = flask_ingest(
        service.database_url, "coverage", "--point", "köln 5", "--day", "2025-10-26"
    )
    assert drawn.returncode == 0, drawn.stderr
    lines = drawn.stdout.splitlines()
    assert lines[0] == f"Köln 5, {recorder.device.device_id} (Europe/Berlin)"
    assert lines[1] == f"00:00  {'.' * 60}"
    assert lines[3:5] == [f"02:00  {'#' * 58}..", f"02:00  {'#' * 60}"]
    assert lines[7] == f"05:00  {'#' * 10}{'~' * 50}"
    assert lines[25] == f"23:00  {'~' * 60}"
    assert lines[26] == "recorded: 16.5 %; gaps: 3; overlaps: 0"
    assert (
        "  02:58:00 to 02:00:00  missing" in lines
    )  # one hour, one minute: two o'clock comes twice
    asked = ("--device", str(recorder.device.device_id), "--day", "2025-10-26", "--json")
    told = json.loads(flask_ingest(service.database_url, "coverage", *asked).stdout)
    assert (told["from"], told["to"]) == ("2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z")
    assert len(told["devices"][0]["steps"]) == 25


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "Give one of --point, --register and --device"),
        (["--point", "x", "--device", "11111111-2222-4333-8444-555555555555"], 2, "Give one of"),
        (["--rebuild", "--day", "2026-01-28"], 2, "use it alone"),
        (["--point", "nowhere\x1b[31m"], 1, r"There is no point named nowhere\x1b[31m"),
        (["--device", "11111111-2222-4333-8444-555555555555"], 1, "No device is registered there"),
        (["--point", "x", "--day", "yesterday"], 2, "does not match the format"),
    ],
)
def test_a_wrong_use_is_explained(
    database_url: str, arguments: list[str], status: int, message: str
) -> None:
    result = flask_ingest(database_url, "coverage", *arguments)
    assert (result.returncode, message in result.stderr) == (status, True), result.stderr


@dataclass
class Life:
    """What really happened to a device, minute by minute of the month."""

    recorder: Recorder
    random: random.Random
    received: list[NewChunk] = field(default_factory=list)
    came: bytearray = field(default_factory=lambda: bytearray(DAYS * 1440))
    there: bytearray = field(default_factory=lambda: bytearray(DAYS * 1440))

    def records(self) -> Iterator[tuple[datetime, datetime]]:
        """The recordings of the month: opening hours, chunks of any length, drop-outs."""
        for day in range(DAYS):
            at = MONTH + day * DAY + self.random.uniform(6, 9) * HOUR
            closes = at + self.random.uniform(1, 4) * HOUR
            while at < closes:
                end = at + self.random.choice([1, 7.3, 15, 40]) * MINUTE
                if self.random.random() > 0.1:  # else nothing was recorded
                    yield at, end
                at = end + self.random.choice([0, 0, 0.4, 70]) * SECOND
                if self.random.random() < 0.03:
                    at -= 10 * MINUTE  # a clock that was set back: both are kept

    def live(self, connection: psycopg.Connection[Any], number: int) -> None:
        """Send the recordings, some late, some twice, some never."""
        offline_from = MONTH + (20 * DAY if number % 5 == 0 else 99 * DAY)
        spool: list[NewChunk] = []
        for start, end in self.records():
            if number % 7 == 0 and self.random.random() < 0.05:
                start, end = start + 365 * DAY, end + 365 * DAY  # a wrong clock
            if number % 7 == 1 and self.random.random() < 0.01:
                end += 40 * 365 * DAY  # a clock that was set while it recorded
            if start < offline_from:
                spool.append(self.chunk(start, end))
            if self.random.random() < 0.3:
                self.send(connection, spool)
        self.send(connection, spool)

    def chunk(self, start: datetime, end: datetime) -> NewChunk:
        device = self.recorder.device
        ids = (device.device_id, device.point_id, device.register_id)
        digest = hashlib.sha256(f"{start} {end}".encode()).digest()
        return new_chunk(Recording(*ids, start, end, "opus", 48000, 1), sha256=digest, size=1)

    def send(self, connection: psycopg.Connection[Any], spool: list[NewChunk]) -> None:
        for chunk in spool:
            for _ in range(1 + (self.random.random() < 0.05)):
                queries.chunks.insert_chunk(connection, chunk, status=ChunkStatus.QUEUED)
            self.received.append(chunk)
            mark(self.came, chunk)
        spool.clear()


def mark(minutes: bytearray, chunk: NewChunk) -> None:
    """Count the chunk in each minute whose second 30 lies in it."""
    if chunk.end_ts - chunk.start_ts > DAY:
        return
    for number in range(max(0, int((chunk.start_ts - MONTH) / MINUTE) - 1), len(minutes)):
        middle = MONTH + number * MINUTE + 30 * SECOND
        if middle >= chunk.end_ts:
            break
        minutes[number] += chunk.start_ts <= middle


def _reasons(life: Life, lost: set[UUID]) -> dict[int, str]:
    """The minutes that are not there, and why, as the device's life has it."""
    gone = bytearray(DAYS * 1440)
    for chunk in life.received:
        if chunk.chunk_id in lost:
            mark(gone, chunk)
    believed = [chunk for chunk in life.received if chunk.end_ts < MONTH + 2 * DAYS * DAY]
    newest = max(chunk.end_ts for chunk in believed)
    ahead = any(chunk.start_ts > MONTH + 2 * DAYS * DAY for chunk in life.received)
    found = {}
    for number, is_there in enumerate(life.there):
        if not is_there and life.came[number]:
            found[number] = "file_missing" if gone[number] else "removed"
        elif not is_there:
            middle = MONTH + number * MINUTE + 30 * SECOND
            found[number] = "not_yet" if middle >= newest and not ahead else "missing"
    return found


def _told(url: str, life: Life) -> dict[str, Any]:
    asked = {
        "device_id": life.recorder.device.device_id,
        "from": MONTH.isoformat(),
        "to": (MONTH + DAYS * DAY).isoformat(),
        "step": "1d",
    }
    answer = requests.get(f"{url}/api/v1/admin/coverage", params=asked, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    [covered] = answer.json()["devices"]
    return covered


def _minutes(gaps: list[dict[str, str]]) -> dict[int, str]:
    """The minutes whose second 30 lies in a gap, and its reason."""
    found: dict[int, str] = {}
    for gap in gaps:
        start, end = (datetime.fromisoformat(gap[name]) for name in ("from", "to"))
        number = int((start - MONTH) / MINUTE)
        while (middle := MONTH + number * MINUTE + 30 * SECOND) < end:
            if middle >= start:
                assert number not in found
                found[number] = gap["reason"]
            number += 1
    return found


def _make_files(storage: Path, lives: list[Life]) -> None:
    for life in lives:
        for chunk in life.received:
            path = storage / chunk.file_path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")


def _rebuilt(service: Service) -> list[tuple[Any, ...]]:
    with service.connect() as connection:
        connection.execute("TRUNCATE recorded_hours")
        assert flask_ingest(service.database_url, "coverage", "--rebuild").returncode == 0
        return connection.execute(TABLE).fetchall()


def _lose_half(service: Service, lives: list[Life], dice: random.Random) -> set[UUID]:
    """Prune the older half, and remove files by hand; return whose."""
    settings = {"AUDIO_STORAGE_DIR": str(service.storage)}
    options = ("--older-than", "0d", "--to", MIDDLE.isoformat(), "--status", "all", "--rate", "0")
    pruned = flask_ingest(service.database_url, "prune", *options, "--yes", "--force", **settings)
    assert pruned.returncode == 0, pruned.stderr
    kept = [c for life in lives for c in life.received if c.start_ts >= MIDDLE]
    for chunk in (lost := dice.sample(kept, 100)):
        (service.storage / chunk.file_path).unlink()
    flask_ingest(service.database_url, "fsck", "--repair", "--force", **settings)
    with service.connect() as connection:
        rows = connection.execute("SELECT count(*), count(file_missing_since) FROM audio_chunks")
        assert rows.fetchone() == (len(kept), len(lost))
    return {chunk.chunk_id for chunk in lost}


@pytest.mark.slow
def test_a_month_of_a_fleet_is_told_as_it_was(start_service) -> None:
    service = start_service()
    dice = random.Random(15)
    lives = [Life(service.recorder(), random.Random(dice.random())) for _ in range(50)]
    with service.connect() as connection:
        for number, life in enumerate(lives):
            life.live(connection, number)
        _make_files(service.storage, lives)
        recorded = connection.execute(TABLE).fetchall()
    assert _rebuilt(service) == recorded
    lost = _lose_half(service, lives, dice)
    reasons = set()
    for life in lives:
        for chunk in life.received:
            if chunk.start_ts >= MIDDLE and chunk.chunk_id not in lost:
                mark(life.there, chunk)
        told, wanted = _told(service.url, life), _reasons(life, lost)
        assert told["share"] == round(sum(map(bool, life.came)) / len(life.came), 4)
        assert _minutes(told["gaps"]) == wanted
        twice = {number for number, chunks in enumerate(life.there) if chunks > 1}
        assert _minutes([overlap | {"reason": ""} for overlap in told["overlaps"]]).keys() == twice
        reasons |= set(wanted.values())
    assert reasons == {"missing", "not_yet", "removed", "file_missing"}
