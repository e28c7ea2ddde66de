"""The service's API for the benchmarks: one kept-alive connection, and the standard library only,
so that a worker process starts at once and leaves the processor to the service.

What a worker does with it does not belong here; how to write one: see `example_worker.py`.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

BASE = "/api/v1/internal"
TIMEOUT_SECONDS = 60.0


class Refused(Exception):
    """The service says no."""

    def __init__(self, status: int, body: bytes) -> None:
        self.code = _code(body)
        super().__init__(f"{status} {self.code}")


class ApiClient:
    """One connection. OSError and HTTPException when it breaks: `close` it, and the next call
    connects again."""

    def __init__(self, address: tuple[str, int], token: str) -> None:
        self._connection = HTTPConnection(*address, timeout=TIMEOUT_SECONDS)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def claim(self, worker: str, *, limit: int, lease_seconds: int) -> list[dict[str, Any]]:
        """The chunks as the service names them. Refused."""
        values = {"worker": worker, "limit": limit, "lease_sec": lease_seconds}
        return list(json.loads(self._exchange("POST", f"{BASE}/claim", values))["chunks"])

    def read_file(self, chunk_id: str) -> bytes:
        """Refused."""
        return self._exchange("GET", f"{BASE}/chunks/{chunk_id}/file")

    def done(self, chunk_id: str, *, attempt: int) -> None:
        """Refused."""
        self._exchange("POST", f"{BASE}/chunks/{chunk_id}/done", {"attempt": attempt})

    def give_up(self, chunk_id: str, *, attempt: int, message: str) -> None:
        """Say that the chunk cannot be processed. Refused."""
        values = {"attempt": attempt, "message": message, "retry": False}
        self._exchange("POST", f"{BASE}/chunks/{chunk_id}/error", values)

    def get(self, path: str) -> bytes:
        """What else there is to read. Refused."""
        return self._exchange("GET", path)

    def close(self) -> None:
        """Leave the connection; the next call opens another."""
        self._connection.close()

    def _exchange(self, method: str, path: str, values: dict[str, Any] | None = None) -> bytes:
        body = None if values is None else json.dumps(values)
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise Refused(response.status, content)
        return content


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return ""
