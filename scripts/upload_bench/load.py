"""The load: files from many devices over some kept-alive connections, as cheaply as can be, by wrk
if it is installed, else by load_client.py.

What the answers are worth, beyond their status, does not belong here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_tools.machine import milliseconds
from bench_tools.programs import generator, outputs_of, python, wrk
from lab.recorder import Recorder
from soak_load import SPEECH

from upload_bench.recorders import first_start
from upload_bench.requests import Requests, uploads

PROCESSES = 2  # also wrk's threads
SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Round:
    """What came of one round. By wrk the times are those of its histogram, in which it makes up for
    what was not sent while it waited for a very long answer."""

    uploads: int  # that were accepted
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median, p99 and the longest, as a round has them; 0 when there are none."""
    found = milliseconds(seconds or [0.0])
    return {"p50_ms": found["median_ms"], "p99_ms": found["p99_ms"], "max_ms": found["max_ms"]}


class Load:
    """Requests for the generator, written down in `folder`, and sent to one server. The numbers of
    the uploads go on from call to call."""

    def __init__(self, address: tuple[str, int], requests: Requests, folder: Path) -> None:
        self._address = address
        self._next = 0
        self._uses_wrk = generator() == "wrk"
        plan = asdict(requests) | {"sound": str(SPEECH), "first": first_start()}
        self._file = folder / f"requests-{address[1]}"
        self._file.write_text(_as_lua(plan) if self._uses_wrk else json.dumps(plan))

    def send(self, *, connections: int, seconds: float) -> Round:
        """One round; wrk takes whole seconds, 1 at least. OSError when it cannot be."""
        if self._uses_wrk:
            output = outputs_of(self._wrk(connections, seconds))[0]
            found = json.loads(output.splitlines()[-1])
        else:
            outputs = outputs_of(*self._clients(connections, seconds))
            found = _together([json.loads(output) for output in outputs])
        self._next += found.pop("numbers")
        return Round(**found)

    def _wrk(self, connections: int, seconds: float) -> list[str]:
        threads = min(PROCESSES, connections)
        own = self._file, self._next, threads
        return wrk(
            self._address, SCRIPT, *own, threads=threads, connections=connections, seconds=seconds
        )

    def _clients(self, connections: int, seconds: float) -> list[list[str]]:
        return [
            python(
                "upload_bench.load_client",
                *(*self._address, self._file, self._next + place, PROCESSES),
                *(max(1, connections // PROCESSES), seconds),
            )
            for place in range(PROCESSES)
        ]


class UploadLoad(Load):
    """Uploads to the service, all of these recorders in turn. No two of one UploadLoad have the
    same device and the same start."""

    def __init__(
        self, address: tuple[str, int], recorders: Sequence[Recorder], folder: Path
    ) -> None:
        super().__init__(address, uploads(recorders), folder)


def _as_lua(plan: dict[str, Any]) -> str:
    """A file for Lua, whose strings are JSON's as long as they are ASCII."""
    heads = ",\n".join(f"{{{json.dumps(one)}, {json.dumps(two)}}}" for one, two in plan["heads"])
    accepted = ", ".join(f"[{status}] = true" for status in plan["accepted"])
    rest = ", ".join(f"{name} = {json.dumps(plan[name])}" for name in ("tail", "sound", "first"))
    return f"return {{{rest}, accepted = {{{accepted}}}, heads = {{\n{heads}\n}}}}\n"


def _together(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the processes of the generator found."""
    took = [value for part in parts for value in part["took"]]
    return {
        "numbers": PROCESSES * max(part["sent"] for part in parts),
        "uploads": sum(part["uploads"] for part in parts),
        "errors": sum(part["errors"] for part in parts),
        "seconds": max(part["seconds"] for part in parts),
        **percentiles(took),
    }
