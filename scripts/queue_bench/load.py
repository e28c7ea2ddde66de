"""The load of the download benchmark: the same requests again and again over some connections, as
cheaply as can be, by wrk if it is installed, else by this module as a program.

    python load.py HOST PORT FILE_OF_REQUESTS CONNECTIONS SECONDS

What is asked for, and what the answers are worth, does not belong here.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from itertools import cycle
from pathlib import Path

from bench_tools.programs import TIMEOUT_SECONDS, generator, outputs_of, python, wrk

PROCESSES = 2  # also wrk's threads
# %s: the requests. Each thread of wrk begins somewhere else.
SCRIPT = """
local requests, number = %s, 0
function init() math.randomseed(tonumber(tostring({}):sub(8))) number = math.random(#requests) end
function request() number = number %% #requests + 1 return requests[number] end
function done(summary)
  local e = summary.errors
  io.write(string.format('\\n{"answers": %%d, "errors": %%d, "seconds": %%f}\\n', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1000000))
end
"""


@dataclass(frozen=True)
class Round:
    """What came of one round."""

    answers: int
    errors: int
    seconds: float


class Load:
    """The requests, written down for the generator, and sent to one server."""

    def __init__(self, address: tuple[str, int], requests: Sequence[str], file: Path) -> None:
        self._host, self._port = address
        self._file = file
        self._uses_wrk = generator() == "wrk"
        text = json.dumps(requests)
        if self._uses_wrk:  # JSON's strings are Lua's too
            text = SCRIPT % f"{{{text[1:-1]}}}"
        file.write_text(text)

    def send(self, *, connections: int, seconds: float) -> Round:
        """One round. OSError when it cannot be."""
        outputs = outputs_of(*self._commands(connections, seconds))
        rounds = [Round(**json.loads(output.splitlines()[-1])) for output in outputs]
        return Round(
            sum(part.answers for part in rounds),
            sum(part.errors for part in rounds),
            max(part.seconds for part in rounds),
        )

    def _commands(self, connections: int, seconds: float) -> list[list[str]]:
        if self._uses_wrk:
            address = self._host, self._port
            file, threads = self._file, PROCESSES
            return [wrk(address, file, threads=threads, connections=connections, seconds=seconds)]
        here = python("queue_bench.load", self._host, self._port, self._file)
        return [[*here, str(connections // PROCESSES), str(seconds)]] * PROCESSES


class _Client:
    """The connections of one process, each with a thread."""

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes], seconds: float) -> None:
        self._address = address
        self._requests = requests
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self.answers = self.errors = 0

    def run(self, _connection: int) -> None:
        while time.monotonic() < self._end:
            with socket.create_connection(self._address, TIMEOUT_SECONDS) as connection:
                try:
                    self._use(connection)
                except (OSError, HTTPException):
                    with self._lock:
                        self.errors += 1

    def _use(self, connection: socket.socket) -> None:
        begin = random.randrange(len(self._requests))
        for request in cycle([*self._requests[begin:], *self._requests[:begin]]):
            if time.monotonic() >= self._end:
                break
            connection.sendall(request)
            response = HTTPResponse(connection)
            response.begin()
            response.read()
            with self._lock:
                self.answers += 1
                self.errors += response.status >= 400


def main() -> None:
    """One process of the generator in Python; its round, as JSON."""
    host, port, file, connections, seconds = sys.argv[1:]
    requests = [str(request).encode() for request in json.loads(Path(file).read_text())]
    client = _Client((host, int(port)), requests, float(seconds))
    started = time.monotonic()
    with ThreadPoolExecutor(int(connections)) as pool:
        list(pool.map(client.run, range(int(connections))))
    took = time.monotonic() - started
    print(json.dumps({"answers": client.answers, "errors": client.errors, "seconds": took}))


if __name__ == "__main__":
    main()
