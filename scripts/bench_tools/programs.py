"""Programs that a benchmark starts beside itself: none outlives it, and Ctrl-C is not for them.

Which programs, and what they say, is not known here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from lab.postgres_programs import die_with_parent

TIMEOUT_SECONDS = 30  # of a request, for whoever makes load
SCRIPTS = Path(__file__).resolve().parent.parent


def generator() -> str:
    """Which program makes the load."""
    return "wrk" if shutil.which("wrk") else "Python"


def wrk(
    address: tuple[str, int],
    script: Path,
    *arguments: object,  # of the script
    threads: int,
    connections: int,
    seconds: float,  # whole ones, 1 at least
) -> list[str]:
    """The command that makes load."""
    host, port = address
    options = [f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    options += [f"--timeout={TIMEOUT_SECONDS}s", f"-s{script}"]
    return ["wrk", *options, f"http://{host}:{port}", "--", *map(str, arguments)]


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module of scripts/; for `start`, which says where those are."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def start(  # noqa: PLR0913  as subprocess.Popen
    command: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    ending: signal.Signals = signal.SIGKILL,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start it. It gets `ending` when the calling thread ends: so this is for the main thread."""
    path = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path} | dict(environ or {}),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        start_new_session=True,  # Ctrl-C is for the benchmark
        preexec_fn=die_with_parent(ending),  # noqa: PLW1509  it takes no lock
    )


def outputs_of(*commands: Sequence[str]) -> list[bytes]:
    """What these print while they run beside each other; OSError when one fails."""
    running = [start(command, stdout=subprocess.PIPE) for command in commands]
    try:
        outputs = [process.communicate()[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    if any(process.returncode for process in running):
        raise OSError(f"{commands[0][0]} failed")
    return outputs
