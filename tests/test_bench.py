"""`./scripts/bench` in short: who takes part, what is told of each, and that nothing is left."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
from bench_tools.machine import loopback_mtu
from bench_tools.nginx import find_nginx
from lab.recorder import Recorder
from support.processes import descendants_of, eventually, is_alive
from support.service import Service, clean_environ
from upload_bench.load import UploadLoad
from upload_bench.recorders import start_of
from upload_bench.seaweedfs import find_weed
from upload_bench.side_by_side import tell

ROOT = Path(__file__).parent.parent
MTU = Path("/sys/class/net/lo/mtu")
USUAL_MTU = MTU.read_text()  # before any of these tests: several run at once
SHORT = ("--rounds=1", "--devices=20", "--connections=4", "--serving=1")
LIMITS = {"limit-4", "limit-8"}


class Run(NamedTuple):
    """One that has ended."""

    status: int
    found: dict[str, Any]
    progress: str
    plot: str


def _start(folder: Path, *arguments: str, **how: str) -> subprocess.Popen[str]:
    """The program behind scripts/bench, which itself only installs first."""
    environ = clean_environ(TMPDIR=str(folder), PYTHONPATH=str(ROOT / "scripts"))
    python = how.pop("python", sys.executable)
    return subprocess.Popen(
        [python, "-m", "upload_bench", *SHORT, *arguments],
        env=environ | how,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _path_without(folder: Path, *names: str) -> str:
    """A PATH with all programs of this machine but these."""
    folder.mkdir()
    for place in map(Path, ("/usr/sbin", "/usr/bin")):
        for program in place.iterdir():
            link = folder / program.name
            if program.name not in names and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


def _python_without_weed(folder: Path) -> str:
    """This environment's, as if in another folder, where pip has put no programs."""
    (folder / "bin").mkdir(parents=True)
    for name in ("lib", "pyvenv.cfg"):
        (folder / name).symlink_to(Path(sys.prefix) / name)
    (folder / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two at once, to save time: with all others, and without them. The load is in Python, whose
    rounds may be shorter than wrk's."""
    folder = tmp_path_factory.mktemp("bench")
    places = [folder / "all", folder / "alone"]
    for place in places:
        place.mkdir()
    alone = {"python": _python_without_weed(folder / "env")}
    plots = [f"--plot={folder / name}.svg" for name in ("all", "alone")]
    running = [
        _start(
            places[0],
            *("--json", "--seconds=0.3", "--mtu=1500", plots[0]),
            PATH=_path_without(folder / "programs", "wrk"),
        ),
        _start(
            places[1],
            *("--json", "--seconds=0.3", "--mtu=0", plots[1]),
            PATH=_path_without(folder / "few", "nginx", "weed", "wrk"),
            **alone,
        ),
    ]
    try:
        ended = [(process, *process.communicate(timeout=300)) for process in running]
    finally:
        for process in running:
            process.terminate()  # and not kill: it has to put the MTU back
    assert [list(place.iterdir()) for place in places] == [[], []]  # nothing is left
    return [
        Run(process.returncode, _document(output, progress), progress, Path(plot[7:]).read_text())
        for (process, output, progress), plot in zip(ended, plots, strict=True)
    ]


def _document(output: str, progress: str) -> dict[str, Any]:
    assert output, progress
    document = json.loads(output)
    assert isinstance(document, dict)
    return document


def test_all_that_are_installed_take_part(runs: list[Run]) -> None:
    whole, alone = (run.found["side-by-side"] for run in runs)
    others = {"nginx": find_nginx(), "seaweedfs": find_weed()}
    installed = {name for name, program in others.items() if program}
    assert whole["contenders"].keys() == LIMITS | {"service"} | installed
    assert whole["missing"].keys() == others.keys() - installed
    assert alone["contenders"].keys() == LIMITS | {"service"}
    assert "pip install -e '.[bench]'" in alone["missing"]["seaweedfs"]
    assert "apt-get install nginx" in alone["missing"]["nginx"]
    table = "\n".join(tell(alone))
    assert all(how in table for how in alone["missing"].values())
    assert not (installed - whole["versions"].keys())


def test_every_figure_of_each_is_told(runs: list[Run]) -> None:
    for run in runs:
        part = run.found["side-by-side"]
        assert part["faults"] == []
        best = max(part["contenders"][name]["uploads_per_second"] for name in LIMITS)
        for name, figures in part["contenders"].items():
            assert (figures["errors"], figures["uploads"] > 0) == (0, True), name
            assert figures["to_limit"] == round(figures["uploads_per_second"] / best, 3)
            assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
            assert all(value > 0 for value in figures["cpu_ms_per_upload"].values())
            assert figures["peak_mib"] >= figures["pss_mib"] > 0
        assert part["contenders"]["service"]["service_to_it"] == 1
        assert part["generator"] == "Python"
        assert run.found["machine"].keys() >= {"cpu", "cores", "kernel", "file_system", "date"}


def test_the_exit_status_says_whether_it_is_as_promised(runs: list[Run]) -> None:
    for run in runs:
        targets = run.found["side-by-side"]["targets"]
        assert run.found["kept"] == (not any(target["kept"] is False for target in targets))
        assert run.status == (0 if run.found["kept"] else 1), run.progress
    assert [target["kept"] for target in runs[1].found["side-by-side"]["targets"]][1] is None


def test_the_plot_has_the_figures_in_it(runs: list[Run]) -> None:
    for run in runs:
        svg = ElementTree.fromstring(run.plot)
        texts = "\n".join(svg.itertext())
        assert run.found["machine"]["cpu"] in texts
        assert run.found["machine"]["date"] in texts
        for figures in run.found["side-by-side"]["contenders"].values():
            rate, p99 = figures["uploads_per_second"], figures["p99_ms"]
            assert f"{rate:.0f}/s, p99 {p99:.1f} ms" in texts


def test_lo_gets_its_mtu_back(runs: list[Run]) -> None:
    wanted = 1500 if os.geteuid() == 0 else int(USUAL_MTU)
    assert runs[0].found["side-by-side"]["mtu"] == wanted
    with loopback_mtu(1500) as one, loopback_mtu(1500) as other:
        assert (one, other) == (wanted, wanted)
    _require_usual_mtu()


def _require_usual_mtu() -> None:
    """In the end: another test process may be at it as well."""
    eventually(lambda: MTU.read_text() == USUAL_MTU, 30)


def test_nothing_outlives_it(tmp_path: Path) -> None:
    process = _start(tmp_path, "--seconds=30")
    try:
        assert process.stderr
        assert any("are registered" in line for line in process.stderr)
        eventually(lambda: len(descendants_of(process.pid)) > 20, 60)
        time.sleep(0.5)
        everything = descendants_of(process.pid)
        for _ in range(2):  # the second does not cut off the tidying
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        output, progress = process.communicate(timeout=60)
    finally:
        process.terminate()  # and not kill: it has to put the MTU back
    assert (process.returncode, progress) == (2, "interrupted\n")
    eventually(lambda: not any(is_alive(pid) for pid in everything))
    assert list(tmp_path.iterdir()) == []
    assert "side by side:" not in output
    _require_usual_mtu()


def test_an_interrupt_that_python_drops_is_raised_again() -> None:
    """It drops what is raised in a hook of a fork."""
    script = """
import os, signal, time
from bench_tools import command
signal.signal(signal.SIGTERM, command._interrupt)
os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGTERM))
try:
    if os.fork() == 0:
        os._exit(0)
    try:
        time.sleep(30)
    finally:
        time.sleep(2 * command.INSIST_SECONDS)
        print("tidied")
except KeyboardInterrupt:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert "KeyboardInterrupt" in done.stderr  # dropped, and told
    assert done.stdout == "tidied\ninterrupted\n"


def test_uploads_have_numbers_that_go_on(emptied: Service, tmp_path: Path) -> None:
    devices = [emptied.recorder() for _ in range(3)]
    recorders = [
        Recorder(who.device.device_id, who.device.point_id, who.device.register_id, who.token)
        for who in devices
    ]
    load = UploadLoad(("127.0.0.1", emptied.port), recorders, tmp_path)
    rounds = [load.send(connections=2, seconds=seconds) for seconds in (1, 1)]
    accepted = sum(came.uploads for came in rounds)
    assert not any(came.errors for came in rounds)

    def rows() -> int:
        with emptied.connect() as connection:
            return int(
                (connection.execute("SELECT count(*) FROM audio_chunks").fetchone() or [0])[0]
            )

    eventually(lambda: accepted <= rows() <= accepted + 2 * 2)


def test_no_two_uploads_have_the_same_device_and_start() -> None:
    numbers = range(1000)
    assert len({(number % 7, start_of(number, 7, 0)) for number in numbers}) == len(numbers)
    hours = [start_of(number, 600, 0) // 3600 for number in range(600 * 60)]
    new = sum(hours[number] != hours[number - 600] for number in range(600, len(hours)))
    assert new == pytest.approx(len(hours) / 60, rel=0.02)  # each needs a folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], r"(?s)usage: scripts/bench.*pip install -e '\.\[bench\]'.*--only.*--devices"),
        (["--devices=0"], "must be at least 1"),
        (["--seconds=0"], "must be above 0"),
        (["--no-such"], "unknown: --no-such"),
        (["--plot=/no/such/folder/bench.svg"], "there is no folder"),
        (["--folder=/no/such/folder"], "could not run: .*No such file"),
        (["--seconds=1000000000"], "GB free, and a round may need"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    output, progress = (process := _start(tmp_path, *arguments)).communicate(timeout=20)
    assert process.returncode == (0 if arguments == ["--help"] else 2)
    assert re.search(said, output + progress)
    assert "Traceback" not in progress
    assert list(tmp_path.iterdir()) == []
