"""What every error answer looks like, and how an outage and its end look from outside."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import requests

from support.recorder import Recorder
from support.service import Service


def assert_problem(
    response: requests.Response, status: int, code: str, phrase: str = ""
) -> dict[str, Any]:
    """The answer is a problem document of the contract's shape."""
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert phrase in problem["detail"]
    assert problem["status"] == status
    assert {"type", "title", "detail", "retryable", "request_id"} <= problem.keys()
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert isinstance(problem["retryable"], bool)
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
    if status in {503, 507}:
        assert int(response.headers["Retry-After"]) > 0
    return problem


CHUNKS = [b"chunk %d" % number for number in range(20)]


def assert_outage(
    service: Service, recorder: Recorder, status: int, code: str, *, broken: str, cause: str
) -> None:
    """While a fault lasts, CHUNKS are refused in time, also all at once; /health says what is
    broken, and the log why; nothing is left lying about."""
    seen = len(service.log())
    with ThreadPoolExecutor(1) as thread:
        health = thread.submit(service.health)
        for answer in service.upload_at_once(recorder, CHUNKS):
            assert assert_problem(answer, status, code)["retryable"] is True
    parts = {part: part != broken for part in ("db", "storage_writable")}
    told_status, told = health.result()
    assert (told_status, told) == (503, told | parts | {"status": "degraded"})
    assert requests.get(f"{service.url}/health/live").status_code == 200
    errors = [line["message"] for line in service.log()[seen:] if line["level"] == "ERROR"]
    assert any(line.startswith(f"{code}: ") and cause in line for line in errors), errors
    assert not service.temporary_files()


def assert_recovery(service: Service, recorder: Recorder) -> None:
    """Once the fault is gone and without a restart, CHUNKS are accepted at the first try: each has
    one row and one file."""
    answers = service.upload_at_once(recorder, CHUNKS)
    assert {answer.status_code for answer in answers} == {200}, service.log_path.read_text()
    paths = sorted(service.storage / answer.json()["stored_path"] for answer in answers)
    assert paths == service.files(recorder)
    assert {row["chunk_id"] for row in service.rows(recorder)} == {
        UUID(answer.json()["chunk_id"]) for answer in answers
    }
    assert service.health()[1]["status"] == "ok"
    assert not service.temporary_files()
