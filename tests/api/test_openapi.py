"""/api/v1/openapi.json: valid, complete, as committed, and true of real answers."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from support.service import ADMIN_TOKEN, INTERNAL_TOKEN, Service

from ingest_api import errors
from ingest_api.app import create_app
from ingest_api.settings import Settings

PAGE = Path(__file__).parent / "openapi.json"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
INTERNAL = {"Authorization": f"Bearer {INTERNAL_TOKEN}"}


@pytest.fixture(scope="module")
def described(service: Service) -> dict[str, Any]:
    answer = requests.get(f"{service.url}/api/v1/openapi.json")
    assert answer.status_code == 200
    same = {"If-None-Match": answer.headers["ETag"]}
    assert requests.get(answer.url, headers=same).status_code == 304
    document: dict[str, Any] = answer.json()
    return document


def test_it_is_the_one_that_is_committed(described: dict[str, Any]) -> None:
    if os.environ.get("WRITE_OPENAPI"):
        PAGE.write_text(json.dumps(described, indent=2) + "\n")
    rewrite = "WRITE_OPENAPI=1 ./scripts/test tests/api/test_openapi.py"
    assert json.loads(PAGE.read_text()) == described, f"the API has changed: {rewrite}"


def test_it_is_valid_and_its_patterns_are_those_of_browsers(described: dict[str, Any]) -> None:
    validate(described)
    patterns = re.findall(r'"pattern": "(.*?)"[,}]', json.dumps(described))
    assert len(patterns) > 3
    for pattern in patterns:
        assert not re.search(r"\\\\[AZz]|\(\?P", pattern), pattern


def test_every_route_is_in_it(described: dict[str, Any]) -> None:
    app = create_app(Settings.from_environ({}))
    routes = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith("/_check/")  # for the proxy alone
    }
    assert routes == {(path, verb) for path, item in described["paths"].items() for verb in item}


def _codes(described: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for item in described["paths"].values():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                problem = answer.get("content", {}).get("application/problem+json", {})
                for code, example in problem.get("examples", {}).items():
                    assert (str(example["value"]["status"]), example["value"]["code"]) == (
                        status,
                        code,
                    )
                    yield int(status), code


def test_every_error_is_in_it(described: dict[str, Any]) -> None:
    known = {
        (kind.status.value, kind.code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.IngestError)
    }
    assert set(_codes(described)) == known


def _check(described: dict[str, Any], answer: requests.Response, path: str) -> Any:
    """The answer is as described for its path, method, status and type."""
    assert answer.request.method
    operation = described["paths"][path][answer.request.method.lower()]
    content = operation["responses"][str(answer.status_code)]["content"]
    kind = answer.headers["Content-Type"].partition(";")[0]
    schema = content[kind]["schema"] | {"components": described["components"]}
    Draft202012Validator(schema).validate(answer.json())
    return answer.json()


def test_real_answers_are_as_described(service: Service, described: dict[str, Any]) -> None:
    recorder = service.recorder()
    device, point = str(recorder.device.device_id), str(recorder.device.point_id)
    receipt = _check(described, service.upload(recorder), "/api/v1/chunks")
    _check(described, service.upload(recorder, codec=""), "/api/v1/chunks")
    admin = "/api/v1/admin"

    def get(path: str, **query: str) -> requests.Response:
        return requests.get(f"{service.url}{path}", params=query, headers=ADMIN)

    times = {"from": "2026-01-28T09:00:00Z", "to": "2026-01-28T12:00:00Z"}
    for path, query in (
        ("chunks", {"device_id": device}),
        ("chunks", {"limit": "0"}),
        ("coverage", {"device_id": device} | times),
        ("coverage", {"device_id": device}),
        ("fleet", {"q": device}),
        ("devices", {}),
        ("devices", {"q": device}),
    ):
        _check(described, get(f"{admin}/{path}", **query), f"{admin}/{path}")
    _check(described, get(f"{admin}/points/{point}"), f"{admin}/points/{{point_id}}")
    chunk = f"{admin}/chunks/{receipt['chunk_id']}"
    _check(described, get(chunk), f"{admin}/chunks/{{chunk_id}}")
    _check(described, get("/health"), "/health")
    _check(described, get("/health/live"), "/health/live")
    claim = f"/api/v1/internal/chunks/{receipt['chunk_id']}/claim"
    claimed = requests.post(f"{service.url}{claim}", json={"worker": "w"}, headers=INTERNAL)
    _check(described, claimed, "/api/v1/internal/chunks/{chunk_id}/claim")
    many = requests.post(
        f"{service.url}/api/v1/internal/claim", json={"worker": "w"}, headers=INTERNAL
    )
    _check(described, many, "/api/v1/internal/claim")


def test_people_can_read_it_without_a_network(start_service: Callable[..., Service]) -> None:
    service = start_service(DOCS_ENABLED="true", WORKERS="1")
    page = requests.get(f"{service.url}/docs/")
    assert page.status_code == 200
    sources = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert len(sources) >= 3
    for source in sources:
        assert not source.startswith(("http", "//"))
        found = requests.get(requests.compat.urljoin(page.url, source))
        assert found.status_code == 200, source
    assert "/api/v1/openapi.json" in page.text


def test_it_is_off_by_default(service: Service) -> None:
    assert requests.get(f"{service.url}/docs/").status_code == 404
