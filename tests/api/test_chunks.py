"""/api/v1/internal/chunks/<id>: a chunk's row, for workers elsewhere."""

from uuid import uuid4

import pytest
import requests
from support.problems import assert_problem
from support.recorder import Recorder
from support.service import INTERNAL_TOKEN, Service

INTERNAL = {"Authorization": f"Bearer {INTERNAL_TOKEN}"}

UNKNOWN = "deadbeef-0000-4000-8000-000000000001"


def test_it_shows_a_chunk(service: Service, recorder: Recorder) -> None:
    receipt = service.upload(recorder).json()
    response = requests.get(
        f"{service.url}/api/v1/internal/chunks/{receipt['chunk_id']}", headers=INTERNAL
    )
    assert response.status_code == 200
    chunk = response.json()
    assert chunk["file_path"] == receipt["stored_path"]
    assert chunk["sha256"] == receipt["sha256"]
    assert chunk["status"] == "QUEUED"
    assert chunk["start_ts"] == "2026-01-28T10:00:00Z"


@pytest.mark.parametrize("chunk_id", [UNKNOWN, "x"])
def test_an_unknown_chunk_is_not_found(service: Service, chunk_id: str) -> None:
    response = requests.get(f"{service.url}/api/v1/internal/chunks/{chunk_id}", headers=INTERNAL)
    assert_problem(response, 404, "chunk_not_found")


def test_it_needs_the_internal_token(service: Service, recorder: Recorder) -> None:
    url = f"{service.url}/api/v1/internal/chunks/{uuid4()}"
    assert_problem(requests.get(url), 401, "missing_token")
    assert_problem(requests.get(url, headers=recorder.headers), 401, "invalid_internal_token")


def test_without_an_internal_token_nobody_may_ask(start_service) -> None:
    service = start_service(INTERNAL_TOKEN="")
    url = f"{service.url}/api/v1/internal/chunks/{uuid4()}"
    for headers in ({}, INTERNAL, {"Authorization": "Bearer "}):
        problem = assert_problem(requests.get(url, headers=headers), 401, "internal_not_configured")
        assert problem["detail"] == "Internal endpoint not configured"
