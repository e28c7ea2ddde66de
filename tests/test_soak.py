"""`./scripts/soak` in short: what was acknowledged is there, whatever dies meanwhile."""

import hashlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from lab.recorder import Attempt, Chunk, RecorderAgent
from lab.recorder import Recorder as Sender
from soak_faults import FAULTS
from soak_load import FIRST_START, Acknowledged, Habits
from soak_report import facts, table
from soak_run import Outcome, Plan, run
from soak_verdict import judge
from support.processes import descendants_of, eventually, is_alive
from support.service import Service, clean_environ

ROOT = Path(__file__).parent.parent


def _soak(folder: Path, **plan: object) -> Outcome:
    outcome = run(Plan(workers=2, seed=random.randrange(1000), **plan), folder)
    print(table(facts(outcome, folder)), (folder / "soak.log").read_text(), sep="\n")
    return outcome


def test_nothing_is_lost_or_double_whatever_dies(tmp_path: Path) -> None:
    habits = Habits(rate=40, chunk_bytes=5000, clumsiness=0.1)
    outcome = _soak(tmp_path, seconds=20, every=1, devices=8, habits=habits)
    assert outcome.verdict.lost == 0
    assert outcome.verdict.double == 0
    assert outcome.verdict.rows_without_file == 0
    assert outcome.verdict.rows_from_nowhere == 0
    assert outcome.stuck == 0
    assert outcome.clean
    assert outcome.verdict.acknowledged > 100
    assert min(outcome.faults[name] for name in FAULTS) >= 1
    assert outcome.tally.failures
    assert outcome.tally.duplicates


def test_no_upload_fails_while_workers_are_replaced(tmp_path: Path) -> None:
    habits = Habits(rate=60, chunk_bytes=5000)
    outcome = _soak(tmp_path, seconds=10, every=1, devices=8, faults=("reload",), habits=habits)
    assert outcome.faults["reload"] > 1
    assert outcome.tally.failures == {}
    assert outcome.clean
    assert outcome.verdict.acknowledged > 100


class _Deliveries:
    """Chunks sent to a service, and what was answered."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.acknowledged: dict[bytes, Acknowledged] = {}
        self.recorder = service.recorder()
        device = self.recorder.device
        ids = (device.device_id, device.point_id, device.register_id)
        sender = Sender(*ids, self.recorder.token)
        self.agent = RecorderAgent(sender, ("127.0.0.1", service.port), self._note)

    def _note(self, sender: Sender, attempt: Attempt) -> None:
        assert attempt.answer
        data = attempt.chunk.data
        self.acknowledged[hashlib.sha256(data).digest()] = Acknowledged(
            sender.device_id,
            attempt.chunk.start_ts,
            len(data),
            attempt.answer["chunk_id"],
            attempt.answer["stored_path"],
        )

    def deliver(self, count: int) -> list[Path]:
        spool = [
            Chunk(FIRST_START + timedelta(minutes=number), b"sound", bytes([number]))
            for number in range(count)
        ]
        self.agent.run(spool)
        receipts = list(self.acknowledged.values())
        return [self.service.storage / receipt.stored_path for receipt in receipts]

    def judge(self) -> tuple[int, int, int, int]:
        """How many are lost, double, without their file, from nowhere."""
        service = self.service
        found = judge(service.database_url, service.storage, self.acknowledged, in_hand=0)
        counts = found.lost, found.double, found.rows_without_file, found.rows_from_nowhere
        assert found.holds == (not any(counts))
        return counts

    def copy_row(self, file: Path, **changes: str) -> None:
        """Record a file a second time, with these columns changed (SQL expressions)."""
        new = ", ".join(f"'{name}', {value}" for name, value in changes.items())
        with self.service.connect() as connection:
            connection.execute(
                f"INSERT INTO audio_chunks SELECT"
                f" (jsonb_populate_record(chunk, jsonb_build_object({new}))).*"
                f" FROM audio_chunks chunk WHERE file_path LIKE '%{file.name}' LIMIT 1"
            )


def test_the_verdict_sees_every_kind_of_damage(start_service: Callable[..., Service]) -> None:
    deliveries = _Deliveries(start_service())
    earlier = "timestamptz '2026-01-01T00:00:00Z'"
    double, changed, removed, unrecorded, misdated = deliveries.deliver(5)
    assert deliveries.judge() == (0, 0, 0, 0)
    deliveries.copy_row(double, chunk_id="gen_random_uuid()")
    assert deliveries.judge() == (0, 1, 0, 0)
    deliveries.copy_row(double, chunk_id="gen_random_uuid()", start_ts=earlier)
    assert deliveries.judge() == (0, 2, 0, 0)
    changed.write_bytes(changed.read_bytes().swapcase())
    assert deliveries.judge() == (1, 2, 1, 0)
    removed.unlink()
    assert deliveries.judge() == (2, 2, 2, 0)
    with deliveries.service.connect() as connection:
        where = "WHERE file_path LIKE '%%' || %s"
        connection.execute(f"DELETE FROM audio_chunks {where}", [unrecorded.name])
        assert deliveries.judge() == (3, 2, 2, 0)
        connection.execute(f"UPDATE audio_chunks SET start_ts = {earlier} {where}", [misdated.name])
        assert deliveries.judge() == (4, 2, 2, 0)
    no_sha256 = "'\\x' || repeat('00', 32)"
    deliveries.copy_row(double, chunk_id="gen_random_uuid()", sha256=no_sha256)
    assert deliveries.judge() == (4, 2, 3, 1)


class Command:
    """The program behind scripts/soak, which itself only installs first."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "soak_command.py"), "--workers=1", *arguments],
            env=clean_environ(TMPDIR=str(folder)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        self.progress = self.process.stderr.readline()

    def all_processes(self) -> list[int]:
        return [self.process.pid, *descendants_of(self.process.pid)]


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        started.append(Command(tmp_path, "--chunk-bytes=5000", "--devices=4", *arguments))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
        command.process.communicate()


def test_ctrl_c_gives_the_verdict_on_what_was_done(
    soak: Callable[..., Command], tmp_path: Path
) -> None:
    command = soak("--minutes=10", "--json", "--faults=reload", "--every=0.5")
    assert "acknowledged" in command.progress
    everything = command.all_processes()
    command.process.send_signal(signal.SIGINT)
    output, _ = command.process.communicate(timeout=60)
    found = json.loads(output)
    assert (found["clean"], found["lost"], found["stuck"]) == (True, 0, 0)
    assert found["acknowledged"] == found["rows"] > 0
    assert command.process.returncode == 0
    eventually(lambda: not [pid for pid in everything if is_alive(pid)], 20)
    assert list(tmp_path.iterdir()) == []  # the throw-away folder is gone


def test_nothing_outlives_a_kill_not_even_what_is_frozen(soak: Callable[..., Command]) -> None:
    command = soak("--faults=freeze-worker,freeze-postgres", "--every=0.1")
    everything = command.all_processes()
    assert len(everything) >= 4  # itself, PostgreSQL, gunicorn and a worker
    command.process.kill()
    eventually(lambda: not [pid for pid in everything if is_alive(pid)], 30)


def test_a_folder_with_something_in_it_is_refused(
    soak: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "something").touch()
    command = soak(f"--keep={tmp_path}")
    assert command.process.wait(30) == 2
    assert f"{tmp_path} is not empty" in command.progress
