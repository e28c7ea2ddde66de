"""`./scripts/example-worker` believes nothing that it is told: servers that answer nonsense."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from support.processes import eventually
from support.recorder import SPEECH
from support.service import INTERNAL_TOKEN
from support.workers import Start

CHUNK = {
    "chunk_id": "019c040b-ad00-8d96-bdaa-db54395cbfb6",
    "attempt": 1,
    "duration_sec": 60,
    "file_size_bytes": len(SPEECH),
    "sha256": hashlib.sha256(SPEECH).hexdigest(),
    "file_path": "../../../../etc/passwd",
}


def _claimed(*chunks: Any) -> dict[str, Any]:
    return {"chunks": list(chunks), "server_time": "yesterday"}


class Liar(ThreadingHTTPServer):
    """Answers to claims as it was told to, one after the other, and then that nothing waits."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.claims: list[tuple[int, Any, dict[str, str]]] = []
        self.file: list[bytes] = [SPEECH]
        self.requests: list[tuple[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"
        Thread(target=self.serve_forever, daemon=True).start()

    def will_say(self, answer: Any, status: int = 200, **headers: str) -> None:
        self.claims.append((status, answer, headers))

    def reports(self) -> list[tuple[str, Any]]:
        return [(path, body) for path, body in self.requests if path.endswith(("done", "error"))]


class _Handler(BaseHTTPRequestHandler):
    server: Liar

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        self.server.tokens.add(self.headers["Authorization"])
        answer: tuple[int, Any, dict[str, str]] = (200, {"status": "DONE"}, {})
        if self.path.endswith("/claim"):
            answer = self.server.claims.pop(0) if self.server.claims else (200, _claimed(), {})
        status, content, headers = answer
        self._send(
            status,
            [content if isinstance(content, bytes) else json.dumps(content).encode()],
            headers,
        )

    def do_GET(self) -> None:
        self.server.requests.append((self.path, None))
        self._send(200, self.server.file, {})

    def _send(self, status: int, pieces: list[bytes], headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as server:
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"<html>Log in to the hotel's network</html>",
        [],
        {},
        {"chunks": "none"},
        _claimed("chunk"),
        _claimed(CHUNK | {"chunk_id": "../../admin/devices"}),
        _claimed(CHUNK | {"chunk_id": 5}),
        _claimed(CHUNK | {"attempt": "first"}),
        _claimed(CHUNK | {"attempt": None}),
        _claimed(CHUNK | {"file_size_bytes": float("inf")}),
        _claimed({"chunk_id": CHUNK["chunk_id"]}),
    ],
    ids=str,
)
def test_after_an_answer_that_makes_no_sense_it_asks_again(
    liar: Liar, start_worker: Start, nonsense: Any
) -> None:
    liar.will_say(nonsense)
    liar.will_say(_claimed(CHUNK))
    worker = start_worker(liar.url, "--drain")
    assert worker.end() == 0
    assert "again in" in worker.err.read_text()
    assert liar.reports() == [(f"/api/v1/internal/chunks/{CHUNK['chunk_id']}/done", {"attempt": 1})]
    assert {path.rsplit("/", 1)[1] for path, _ in liar.requests} == {"claim", "file", "done"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_it_asks_a_troubled_server_again(liar: Liar, start_worker: Start, status: int) -> None:
    liar.will_say(b"<html>", status)
    liar.will_say({"code": "internal_error", "retryable": True}, status)
    assert start_worker(liar.url, "--drain").end() == 0
    assert len(liar.requests) == 3


def test_it_waits_for_as_long_as_it_is_asked_to(liar: Liar, start_worker: Start) -> None:
    liar.will_say({"code": "database_unavailable", "retryable": True}, 503, Retry_After="2")
    worker = start_worker(liar.url, "--drain")
    worker.complaint("again in 2.0 s: Away: database_unavailable")
    assert worker.end() == 0


def test_its_token_goes_nowhere_else(liar: Liar, start_worker: Start) -> None:
    with Liar() as other:
        liar.will_say({}, 307, Location=f"{other.url}/api/v1/internal/claim")
        assert start_worker(liar.url, "--drain").end() == 1
        assert other.requests == []
        other.shutdown()
    assert liar.tokens == {f"Bearer {INTERNAL_TOKEN}"}


def test_a_netrc_does_not_replace_its_token(liar: Liar, start_worker: Start, tmp_path: Any) -> None:
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    assert start_worker(liar.url, "--drain", NETRC=str(tmp_path / "netrc")).end() == 0
    assert liar.tokens == {f"Bearer {INTERNAL_TOKEN}"}


@pytest.mark.parametrize(
    "file",
    [[SPEECH[:-1]], [SPEECH[:-1], b"x"], [SPEECH] * 3, []],
    ids=["cut", "other", "long", "none"],
)
def test_what_is_not_the_file_is_not_processed(
    liar: Liar, start_worker: Start, file: list[bytes]
) -> None:
    liar.file = file
    liar.will_say(_claimed(CHUNK))
    assert start_worker(liar.url, "--drain").end() == 0
    [(path, body)] = liar.reports()
    assert path.endswith("/error")
    assert body["retry"] is True


def test_a_file_without_end_is_not_read_to_the_end(liar: Liar, start_worker: Start) -> None:
    liar.file = [bytes(1 << 20)] * 1000
    liar.will_say(_claimed(CHUNK))
    worker = start_worker(liar.url, "--drain")
    assert worker.end(10) == 0
    eventually(lambda: liar.reports())


def test_a_chunk_of_which_no_sha256_is_known_is_processed(liar: Liar, start_worker: Start) -> None:
    liar.will_say(_claimed(CHUNK | {"sha256": None}))
    assert start_worker(liar.url, "--drain").end() == 0
    [(path, _)] = liar.reports()
    assert path.endswith("/done")


def test_a_refusal_cannot_steer_the_terminal(liar: Liar, start_worker: Start) -> None:
    liar.will_say({"code": "\x1b[2J", "detail": "\x1b]0;owned\x07"}, 422)
    worker = start_worker(liar.url, "--drain")
    assert worker.end() == 1
    assert "\x1b" not in worker.err.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "ftp://example"],
        ["--url", "example:8000"],
        ["--url", "http://user:password@example"],
        ["--point", "5"],
        ["--redis", "redis://localhost", "--point", "019c040b-ad00-8d96-bdaa-db54395cbfb6"],
        ["--redis", "http://localhost"],
    ],
    ids=" ".join,
)
def test_arguments_that_cannot_work_are_refused(
    liar: Liar, start_worker: Start, arguments: list[str]
) -> None:
    worker = start_worker(liar.url, *arguments)
    assert worker.end() != 0
    assert "Traceback" not in worker.err.read_text()
    assert liar.requests == []
