"""One worker process of the benchmark: claims, reads, compares, reports done, and notes what it was
told in a file of its own, a line at once, which outlives its SIGKILL.

    done <chunk_id> <attempt>      answered with 200
    lost <chunk_id> <attempt>      answered with 409 lease_lost
    differs <chunk_id> <attempt>   the bytes were not those of the row's SHA-256
    failed <what>                  any other request that came to nothing

When it dies, and what the notes add up to, is not known here.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from http.client import HTTPException
from typing import Any

from bench_tools.client import ApiClient, Refused

BATCH = 10
NOTHING_SECONDS = 0.2


class Worker:
    """Works until it is killed."""

    def __init__(self, client: ApiClient, name: str, notes: str, lease_seconds: int) -> None:
        self._client = client
        self._name = name
        self._lease_seconds = lease_seconds
        self._notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def run(self) -> None:
        while True:
            try:
                self._work_on_a_batch()
            except (OSError, HTTPException) as error:
                self._client.close()
                self._fail(type(error).__name__)
            except Refused as refused:
                self._fail(str(refused))

    def _work_on_a_batch(self) -> None:
        chunks = self._client.claim(self._name, limit=BATCH, lease_seconds=self._lease_seconds)
        for chunk in chunks:
            self._work_on(chunk)
        if not chunks:
            time.sleep(NOTHING_SECONDS)

    def _work_on(self, chunk: dict[str, Any]) -> None:
        chunk_id, attempt = chunk["chunk_id"], chunk["attempt"]
        try:
            if hashlib.sha256(self._client.read_file(chunk_id)).hexdigest() != chunk["sha256"]:
                self._note(f"differs {chunk_id} {attempt}")
                self._client.give_up(chunk_id, attempt=attempt, message="other bytes")
                return
            self._client.done(chunk_id, attempt=attempt)
            self._note(f"done {chunk_id} {attempt}")
        except Refused as refused:
            if refused.code != "lease_lost":
                raise
            self._note(f"lost {chunk_id} {attempt}")

    def _fail(self, what: str) -> None:
        self._note(f"failed {what}")
        time.sleep(NOTHING_SECONDS)

    def _note(self, line: str) -> None:
        os.write(self._notes, f"{line}\n".encode())


def main() -> None:
    """INTERNAL_TOKEN is in the environment, where other users do not see it."""
    host, port, name, notes, lease_seconds = sys.argv[1:]
    client = ApiClient((host, int(port)), os.environ["INTERNAL_TOKEN"])
    Worker(client, name, notes, int(lease_seconds)).run()


if __name__ == "__main__":
    main()
