"""The client of /api/v1/internal, for `worker.py`.

Where the worker hears of chunks, and what it does with them, does not belong here.
"""

import hashlib
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import IO, Any, TypeVar
from uuid import UUID

import requests

TIMEOUT = (5, 30)  # seconds: to connect, and between two packets
T = TypeVar("T")


class Away(OSError):
    """The service is unavailable for the moment."""

    seconds = 0

    def __init__(self, why: str, retry_after: str = "") -> None:
        super().__init__(why)
        if retry_after.isdecimal():
            self.seconds = min(int(retry_after), 60)


class Refused(Exception):
    """The service refuses the request; `code` says why."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.code = status, code


MAY_PASS = (Away, requests.RequestException)


class Stop:
    """A stop that a signal asked for. (Setting a threading.Event in a handler can deadlock.)"""

    asked = False

    def ask(self, signum: int, _frame: object) -> None:
        self.asked = True
        signal.signal(
            signum, signal.SIG_DFL
        )  # a second one does not wait for the chunk in progress

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


def complain(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def describe(error: Exception) -> str:
    """Describe an error in one line, without characters that control a terminal."""
    text = f"{type(error).__name__}: {error}"
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:1000]


def growing(failures: int) -> float:
    """Return the seconds to wait after so many failures, with jitter."""
    return float(min(2 ** min(failures, 9), 30)) * random.uniform(0.5, 1)


@dataclass(frozen=True)
class Chunk:
    """A chunk that the worker holds."""

    chunk_id: UUID
    attempt: int  # goes back with each report: one under an attempt that is over is refused
    duration_sec: int
    file_size_bytes: int
    sha256: str  # "": stored by a service that did not compute it

    @classmethod
    def from_json(cls, value: Any) -> "Chunk":
        """Check it, because the id becomes a part of paths, and the size limits a download."""
        try:
            return cls(
                UUID(value["chunk_id"]),
                int(value["attempt"]),
                int(value["duration_sec"]),
                int(value["file_size_bytes"]),
                str(value["sha256"] or ""),
            )
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise Away("that was no chunk") from None


class Http:
    """Requests to /api/v1/internal, for one thread; raises MAY_PASS errors or Refused."""

    def __init__(self, url: str, token: str) -> None:
        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        self._url = f"{url}/api/v1/internal/"
        self._session = requests.Session()
        self._session.auth = sign  # as a mere header it would give way to a .netrc

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with self.request("POST", path, json=body) as response:
            return _json_object(response)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        options |= {"timeout": TIMEOUT, "allow_redirects": False}
        response = self._session.request(method, self._url + path, **options)
        if response.status_code != 200:
            with response:
                raise _refusal(response)
        return response


def _json_object(response: requests.Response) -> dict[str, Any]:
    answer = response.json()
    if not isinstance(answer, dict):
        raise Away("that was no JSON object")
    return answer


def _refusal(response: requests.Response) -> Exception:
    status = response.status_code
    try:
        problem = _json_object(response)
    except MAY_PASS:  # the answer is not the service's, but that of a proxy
        problem = {"detail": response.reason}
    code, detail = str(problem.get("code", status)), str(problem.get("detail"))
    if status in {408, 429} or (status >= 500 and problem.get("retryable", True)):
        return Away(f"{code}: {detail}", response.headers.get("Retry-After", ""))
    return Refused(status, code, detail)


class Api:
    """Claims chunks, reports on them, and renews their leases in between.

    Temporary failures are retried: a claim until it succeeds or the worker has to stop, everything
    else for the length of a lease.
    """

    def __init__(self, url: str, token: str, stop: Stop, *, worker: str, lease_sec: int) -> None:
        self.worker, self.lease_sec = worker, lease_sec
        self._stop = stop
        self._http, self._renewals = Http(url, token), Http(url, token)
        self._held: set[Chunk] = set()
        threading.Thread(target=self._keep_renewing, daemon=True).start()

    def claim(self, **wish: Any) -> list[Chunk]:
        """Claim the oldest waiting chunks. If the answer is lost, their leases simply expire."""

        def read(answer: dict[str, Any]) -> list[Chunk]:
            if not isinstance(answer.get("chunks"), list):
                raise Away("that was no list of chunks")
            return [Chunk.from_json(chunk) for chunk in answer["chunks"]]

        return self._claim("claim", wish, read)

    def claim_one(self, chunk_id: UUID) -> Chunk:
        [chunk] = self._claim(f"chunks/{chunk_id}/claim", {}, lambda a: [Chunk.from_json(a)])
        return chunk

    def download(self, chunk: Chunk, file: IO[bytes]) -> None:
        """Download exactly the bytes that were uploaded, or raise an OSError."""
        sha256, path = hashlib.sha256(), f"chunks/{chunk.chunk_id}/file"
        ask = partial(self._http.request, "GET", path, stream=True)
        with self._patiently(ask, self.lease_sec) as response:
            for piece in response.iter_content(65536):
                file.write(piece)
                sha256.update(piece)
                if file.tell() > chunk.file_size_bytes:
                    break
        file.flush()
        whole = file.tell() == chunk.file_size_bytes
        if not whole or chunk.sha256 not in {"", sha256.hexdigest()}:
            raise OSError("what was downloaded is not what was uploaded")

    def done(self, chunk: Chunk) -> str:
        """Report success; return the chunk's new status. Reporting twice does no harm."""
        return self._report(chunk, "done", {})

    def error(self, chunk: Chunk, message: str, *, retry: bool) -> str:
        """Report failure; return the chunk's new status."""
        return self._report(chunk, "error", {"message": message, "retry": retry})

    def _claim(
        self, path: str, wish: Mapping[str, Any], read: Callable[[dict[str, Any]], list[Chunk]]
    ) -> list[Chunk]:
        body = {"worker": self.worker, "lease_sec": self.lease_sec, **wish}
        chunks = self._patiently(lambda: read(self._http.post(path, body)), math.inf)
        self._held.update(chunks)
        return chunks

    def _report(self, chunk: Chunk, outcome: str, more: Mapping[str, Any]) -> str:
        path, body = f"chunks/{chunk.chunk_id}/{outcome}", {"attempt": chunk.attempt, **more}
        try:
            answer = self._patiently(partial(self._http.post, path, body), self.lease_sec)
        finally:
            self._held.discard(chunk)
        return str(answer.get("status"))

    def _patiently(self, act: Callable[[], T], seconds: float) -> T:
        deadline = time.monotonic() + seconds
        for failures in count():
            try:
                return act()
            except MAY_PASS as error:
                pause = max(growing(failures), getattr(error, "seconds", 0))
                if self._stop.asked or time.monotonic() + pause > deadline:
                    raise
                complain(f"again in {pause:.1f} s: {describe(error)}")
                self._stop.wait(pause)
        raise AssertionError("count() has ended")

    def _keep_renewing(self) -> None:
        while True:
            time.sleep(self.lease_sec / 3)  # so that one renewal may fail
            for chunk in tuple(self._held):
                body = {"attempt": chunk.attempt, "lease_sec": self.lease_sec}
                try:
                    self._renewals.post(f"chunks/{chunk.chunk_id}/extend", body)
                except MAY_PASS:
                    pass  # until the next time
                except Refused:
                    self._held.discard(chunk)  # lost; the report will be refused as well
