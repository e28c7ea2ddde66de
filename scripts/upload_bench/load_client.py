"""One process of the load where wrk is not installed; see load.py.

    python -m upload_bench.load_client HOST PORT FILE FIRST STEP CONNECTIONS SECONDS

FILE says what to send; the uploads have the numbers FIRST, FIRST + STEP, and so on.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from bench_tools.programs import TIMEOUT_SECONDS

from upload_bench.recorders import CHUNK_SECONDS, start_of


class Client:
    """Some connections, each with a thread."""

    def __init__(self, plan: dict[str, Any], first: int, step: int, seconds: float) -> None:
        self._plan = plan
        self._rest: bytes = Path(plan["sound"]).read_bytes() + plan["tail"].encode()
        self._number, self._step = first, step
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self.sent = self.errors = 0
        self.took: list[float] = []  # seconds, of the uploads that were accepted

    def run(self, address: tuple[str, int]) -> None:
        """One connection, opened anew when it breaks, until the time is up."""
        while time.monotonic() < self._end:
            try:
                with socket.create_connection(address, TIMEOUT_SECONDS) as connection:
                    self._use(connection)
            except (OSError, HTTPException):
                self._fail()

    def _use(self, connection: socket.socket) -> None:
        while time.monotonic() < self._end:
            request = self._next_request()
            started = time.perf_counter()
            connection.sendall(request)
            response = HTTPResponse(connection)
            response.begin()
            response.read()
            if response.status in self._plan["accepted"]:
                self.took.append(time.perf_counter() - started)
            else:
                self._fail()
            if response.will_close:
                return

    def _next_request(self) -> bytes:
        with self._lock:
            number = self._number
            self._number += self._step
            self.sent += 1
        heads = self._plan["heads"]
        start = start_of(number, len(heads), self._plan["first"])
        one, two = heads[number % len(heads)]
        end = time.gmtime(start + CHUNK_SECONDS)
        head: str = time.strftime(one, time.gmtime(start)) + time.strftime(two, end)
        return head.encode() + self._rest

    def _fail(self) -> None:
        with self._lock:
            self.errors += 1


def main() -> None:
    """Send; print what came of it as JSON."""
    host, port, file, first, step, connections, seconds = sys.argv[1:]
    client = Client(json.loads(Path(file).read_text()), int(first), int(step), float(seconds))
    started = time.monotonic()
    with ThreadPoolExecutor(int(connections)) as pool:
        list(pool.map(client.run, [(host, int(port))] * int(connections)))
    found = {
        "sent": client.sent,
        "uploads": len(client.took),
        "errors": client.errors,
        "seconds": time.monotonic() - started,
        "took": client.took,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
