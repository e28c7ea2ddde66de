"""`./scripts/bench-queue` in short: each chunk is done once, and what is not so is told."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from queue_bench import command
from queue_bench.download import Case
from queue_bench.load import Load
from queue_bench.verdict import Verdict, judge
from support.leases import HttpWorker, upload_chunks
from support.processes import descendants_of, eventually, is_alive
from support.service import Service, clean_environ

ROOT = Path(__file__).parent.parent
SCRIPTS = str(ROOT / "scripts")
CLAIM = ("--only=claim", "--rows=20000", "--claims=50")
WORK = ("--only=workers", "--chunks=200", "--workers=4", "--kills=2")
DOWNLOAD = ("--only=download", "--files=20", "--rounds=1", "--seconds=1")


def _start(folder: Path, *arguments: str, path: str | None = None) -> subprocess.Popen[str]:
    """The program behind scripts/bench-queue, which itself only installs first."""
    environ = clean_environ(TMPDIR=str(folder), PYTHONPATH=SCRIPTS) | (
        {"PATH": path} if path else {}
    )
    return subprocess.Popen(
        [sys.executable, "-m", "queue_bench", "--mtu=0", "--serving=1", *arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the three parts find, all at once to save time; as JSON."""
    folder = tmp_path_factory.mktemp("bench")
    running = [_start(folder, "--json", *part) for part in (CLAIM, WORK, DOWNLOAD)]
    documents: dict[str, Any] = {}
    try:
        for process in running:
            output, progress = process.communicate(timeout=300)
            assert process.returncode == 0, progress
            documents |= json.loads(output)
    finally:
        for process in running:
            process.kill()
    assert list(folder.iterdir()) == []  # the throw-away folders are gone
    return documents


def test_a_claim_finds_what_waits_by_indexes(found: dict[str, Any]) -> None:
    claim = found["claim"]
    assert (claim["spread"]["waiting"], claim["backlog"]["waiting"]) == (1000, 2000)
    for case in (claim["spread"], claim["backlog"]):
        assert case["seq_scans"] == 0
        assert {"ix_audio_chunks_queued", "ix_audio_chunks_turn"} <= set(case["indexes"])
        for way in ("function", "http"):
            assert 0 < case[way]["median_ms"] <= case[way]["p99_ms"] <= case[way]["max_ms"]


def test_each_chunk_is_done_once_while_workers_are_killed(found: dict[str, Any]) -> None:
    work = found["workers"]
    faults = ("lost", "not_done", "done_twice", "differed", "upload_errors")
    assert not any(work[name] for name in faults), work
    assert work["unnoted"] <= work["kills"] == 2
    assert work["tried_again"] > 0  # what the killed had in hand
    assert work["uploads_beside"] > 0
    everything = work["acknowledged"]
    assert everything == 200 + work["uploads_beside"]
    assert work["rows_by_status"] == {"DONE": everything}


def test_a_broken_promise_is_the_exit_status(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = found["workers"] | {"kept": False, "lost": 1, "examples": ["lost: a-chunk"]}
    monkeypatch.setattr(command.workers, "run", lambda *_: broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["bench-queue", "--only=workers"])
    assert command.main() == 1
    *_, example, last = capsys.readouterr().out.splitlines()
    assert (example, last) == ("lost: a-chunk", "NOT AS PROMISED")


@pytest.mark.parametrize(
    ("signum", "part", "begun"),
    [(signal.SIGINT, WORK, "begin"), (signal.SIGKILL, DOWNLOAD, "round 0")],
    ids=lambda value: getattr(value, "name", None),
)
def test_nothing_outlives_it(
    signum: signal.Signals, part: tuple[str, ...], begun: str, tmp_path: Path
) -> None:
    process = _start(tmp_path, *part, "--chunks=40", "--files=2")
    try:
        assert process.stderr
        assert any(begun in line for line in process.stderr)
        everything = descendants_of(process.pid)
        assert len(everything) > 5
        process.send_signal(signum)
        process.communicate(timeout=20)
    finally:
        process.kill()
    eventually(lambda: not [pid for pid in everything if is_alive(pid)], 20)
    if signum == signal.SIGINT:
        assert process.returncode == 2
        assert list(tmp_path.iterdir()) == []


def test_a_download_is_measured_beside_the_answers_without_a_body(found: dict[str, Any]) -> None:
    cases = found["download"]["cases"]
    nginx = {"nginx"} if shutil.which("nginx", path="/usr/bin:/usr/sbin") else set()
    assert cases.keys() == {"file", "unchanged", "live"} | nginx
    for name, case in cases.items():
        assert case["errors"] == 0
        assert case["requests_per_second"] > 0
        server = "nginx" if name == "nginx" else "service"
        assert case["cpu_ms_per_request"][server] > 0


def test_without_wrk_the_load_is_made_in_python(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    address, request = ("127.0.0.1", service.port), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    live = Load(address, [request % "/health/live"], tmp_path / "live")
    answered = live.send(connections=4, seconds=0.3)
    assert (answered.answers > 0, answered.errors) == (True, 0)
    unknown = Load(address, [request % "/unknown"], tmp_path / "unknown")
    refused = unknown.send(connections=4, seconds=0.3)
    assert refused.errors == refused.answers > 0


def test_another_answer_than_the_expected_is_not_measured(service: Service) -> None:
    request = "GET /unknown HTTP/1.1\r\nHost: localhost\r\n\r\n"
    case = Case(("127.0.0.1", service.port), [request], (200, 16))
    with pytest.raises(Exception, match=r"GET /unknown HTTP/1.1: \(404, \d+\), not \(200, 16\)"):
        case.require_right_answer()


class _Work:
    """Chunks that were uploaded and done, and what was noted of it."""

    def __init__(self, service: Service, folder: Path) -> None:
        recorder, worker = service.recorder(), HttpWorker(service)
        upload_chunks(service, recorder, range(4))
        self.service, self.notes = service, folder / "notes"
        self.acknowledged: dict[str, str] = {}
        self.lines: list[str] = []
        for chunk in worker.claim(10):
            assert worker.done(chunk).status_code == 200
            self.acknowledged[chunk["chunk_id"]] = chunk["sha256"]
            self.lines.append(f"done {chunk['chunk_id']} 1")

    def judge(self, *more: str, kills: int = 0) -> Verdict:
        """With these lines in another worker's notes."""
        self.notes.write_text("".join(f"{line}\n" for line in self.lines))
        other = self.notes.with_name("other")
        other.write_text("".join(f"{line}\n" for line in more))
        files = [self.notes, other]
        return judge(self.service.database_url, self.acknowledged, files, kills)

    def change(self, chunk_id: str, assignments: str) -> None:
        with self.service.connect() as connection:
            connection.execute("SET session_replication_role = replica")  # no triggers
            connection.execute(
                f"UPDATE audio_chunks SET {assignments} WHERE chunk_id = '{chunk_id}'"
            )


def test_the_verdict_sees_every_broken_promise(emptied: Service, tmp_path: Path) -> None:
    work = _Work(emptied, tmp_path)
    first, second, third, _ = work.acknowledged
    assert work.judge().holds
    noted_again = work.judge(f"done {first} 1", f"lost {first} 1", "failed 503 away")
    assert noted_again.holds  # the same attempt may say it twice
    assert (noted_again.leases_lost, noted_again.worker_failures) == (1, {"503 away": 1})

    twice = work.judge(f"done {first} 2")
    assert (twice.done_twice, twice.holds) == (1, False)
    assert twice.examples == [f"done_twice: {first}"]
    from_nowhere = work.judge("done 00000000-0000-8000-8000-000000000000 1")
    assert (from_nowhere.done_twice, from_nowhere.holds) == (1, False)
    differed = work.judge(f"differs {first} 1")
    assert (differed.differed, differed.holds) == (1, False)
    work.change(first, "attempts = 2")
    assert (work.judge().done_twice, work.judge().tried_again) == (1, 1)
    work.change(first, "attempts = 1")

    work.lines.pop()
    assert (work.judge().unnoted, work.judge().holds) == (1, False)
    assert work.judge(kills=1).holds
    work.acknowledged["00000000-0000-8000-8000-000000000000"] = "00" * 32
    assert (work.judge(kills=1).lost, work.judge(kills=1).holds) == (1, False)
    work.acknowledged.popitem()
    work.acknowledged[second] = "00" * 32
    assert (work.judge(kills=1).differed, work.judge(kills=1).holds) == (1, False)
    work.change(third, "status = 'ERROR'")
    broken = work.judge(kills=1)
    assert (broken.lost, broken.not_done) == (1, 1)
    assert broken.rows_by_status == {"DONE": 3, "ERROR": 1}
