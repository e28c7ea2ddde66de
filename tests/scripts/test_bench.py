"""`./scripts/bench` in short: it measures what it says, or says why not, and leaves nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from bench_service.devices import start_of
from support.processes import descendants_of, eventually, is_alive
from support.service import clean_environ

ROOT = Path(__file__).parents[2]
MTU = Path("/sys/class/net/lo/mtu")
USUAL_MTU = MTU.read_text()  # several tests may change it at the same time


def _start(folder: Path, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Start the program behind scripts/bench, which itself only installs first."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench_service", f"--folder={folder}", *arguments],
        env=clean_environ() | {"PYTHONPATH": str(ROOT / "scripts")} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _measure(folder: Path, *arguments: str) -> dict[str, Any]:
    process = _start(folder, "--json", *arguments)
    try:
        output, progress = process.communicate(timeout=100)
    finally:
        process.terminate()  # and not kill: it has to put the MTU back
    assert output, progress
    found = json.loads(output)
    assert process.returncode == (0 if found["kept"] else 1), progress
    assert list(folder.iterdir()) == []
    return found


def _refusal(folder: Path, *arguments: str, **environ: str) -> str:
    output, message = (process := _start(folder, *arguments, **environ)).communicate(timeout=20)
    assert (process.returncode, output, list(folder.iterdir())) == (2, "", [])
    assert "Traceback" not in message
    return message


def test_uploads_are_measured_beside_the_limit_and_another_version(tmp_path: Path) -> None:
    (checkout := tmp_path / "checkout").mkdir()
    (folder := tmp_path / "folder").mkdir()
    (checkout / ".venv").symlink_to(sys.prefix)
    plan = ("upload", "--rounds=1", "--seconds=1", "--connections=2", f"--beside={checkout}")
    if not shutil.which("wrk"):
        assert "apt-get install wrk" in _refusal(folder, *plan)
        return
    found = _measure(folder, *plan)
    assert found["contenders"].keys() == {"limit", "service", str(checkout)}
    for name, figures in found["contenders"].items():
        assert figures["errors"] == 0, name
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert figures["per_second"] > 0
        assert figures["cpu_ms"] > 0
    assert found["contenders"]["service"]["service_is"] == 1
    assert found["faults"] == []
    assert found["machine"].keys() >= {"cpu", "cores", "kernel", "file_system", "date"}


def test_claims_are_measured_with_the_mtu_of_a_network(tmp_path: Path) -> None:
    found = _measure(tmp_path, "claim", "--rows=20000", "--claims=3")
    scans = [found[name]["seq_scans"] for name in ("spread", "backlog")]
    assert found["kept"] == (scans == [0, 0])  # a table so small may be scanned
    for case in (found["spread"], found["backlog"]):
        assert 0 < case["function"]["p50_ms"] <= case["function"]["p99_ms"]
        assert 0 < case["http"]["p50_ms"] <= case["http"]["max_ms"]
    assert (found["spread"]["waiting"], found["backlog"]["waiting"]) == (1000, 2940)
    assert found["machine"]["mtu"] == (1500 if os.geteuid() == 0 else int(USUAL_MTU))
    eventually(lambda: MTU.read_text() == USUAL_MTU, 30)


def test_fill_makes_rows_as_uploads_do(tmp_path: Path, database_url: str) -> None:
    plan = ("fill", "--rows=3000", "--devices=7", f"--database={database_url}")
    found = _measure(tmp_path, *plan)
    assert (found["kept"], found["rows"]) == (True, 3000)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT device_id, start_ts, status, file_path, chunk_id FROM audio_chunks"
            " ORDER BY chunk_id"
        ).fetchall()
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    assert len({row[:2] for row in rows}) == 3000
    assert Counter(row[2] for row in rows) == {"DONE": 2000, "QUEUED": 1000}
    assert all(row[3].endswith(f"_{row[4]}.ogg") for row in rows)
    assert "has chunks: name an empty one" in _refusal(tmp_path, *plan)


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    process = _start(tmp_path, "claim", "--rows=10000000")
    try:
        assert process.stderr
        # Before it, a normal user is told that lo keeps its MTU.
        assert any("is filled" in process.stderr.readline() for _ in range(2))
        everything = descendants_of(process.pid)
        for _ in range(2):  # the second does not cut off the clean-up
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        output, message = process.communicate(timeout=60)
    finally:
        process.terminate()  # and not kill: it has to put the MTU back
    assert (process.returncode, output) == (2, "")
    assert message.endswith("interrupted\n")
    assert len(everything) > 3
    eventually(lambda: not any(is_alive(pid) for pid in everything))
    assert list(tmp_path.iterdir()) == []
    eventually(lambda: MTU.read_text() == USUAL_MTU, 30)


def test_no_two_uploads_have_the_same_device_and_start() -> None:
    numbers = range(1000)
    assert len({(number % 7, start_of(number, 7, 0)) for number in numbers}) == len(numbers)
    hours = [start_of(number, 600, 0) // 3600 for number in range(600 * 60)]
    new = sum(hours[number] != hours[number - 600] for number in range(600, len(hours)))
    assert new == pytest.approx(len(hours) / 60, rel=0.02)  # each needs a folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["upload", "--rounds=0"], "'--rounds': 0 is not in the range"),
        (["claim", "--rows=1"], "20000"),
        (["no-such"], "No such command"),
        (["fill", "--database=postgresql:///?host=/nowhere"], "could not run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    assert said in _refusal(tmp_path, *arguments)


def test_without_wrk_it_says_how_to_get_it(tmp_path: Path) -> None:
    (programs := tmp_path / "programs").mkdir()
    (folder := tmp_path / "folder").mkdir()
    assert "apt-get install wrk" in _refusal(folder, "paced", PATH=str(programs))


def test_help_names_every_benchmark(tmp_path: Path) -> None:
    output, _ = (process := _start(tmp_path, "--help")).communicate(timeout=20)
    assert process.returncode == 0
    for name in ("upload", "paced", "claim", "download", "maintenance", "fill"):
        assert f"\n  {name} " in output
