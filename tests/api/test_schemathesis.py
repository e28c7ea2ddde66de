"""Requests made up from the description: none breaks the service; every answer is as described."""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.service import ADMIN_TOKEN, INTERNAL_TOKEN, Service

from ingest_api.app import create_app
from ingest_api.settings import Settings
from ingest_api.web.openapi.document import build

pytestmark = pytest.mark.slow
CHECKS = (
    *(not_a_server_error, status_code_conformance),
    *(content_type_conformance, response_schema_conformance),
)
EXAMPLES = 40

SCHEMA = schemathesis.openapi.from_dict(build(create_app(Settings.from_environ({}))))
OPERATIONS = {
    f"{operation.method} {operation.path}": operation
    for operation in (result.ok() for result in SCHEMA.get_all_operations())
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str]) -> Any:
    service = Service(tmp_path_factory.mktemp("fuzzed"), new_database()).start()
    yield service, service.recorder()
    assert service.stop() == 0


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_breaks_it(fuzzed: Any, name: str) -> None:
    service, recorder = fuzzed
    operation = OPERATIONS[name]
    tokens = {"admin": ADMIN_TOKEN, "internal": INTERNAL_TOKEN, "chunks": recorder.token}
    area = operation.path.removeprefix("/api/v1/").partition("/")[0]
    headers = {"Authorization": f"Bearer {tokens.get(area, 'none')}"}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: schemathesis.Case) -> None:
        answer = case.call(base_url=service.url, headers=headers)
        case.validate_response(answer, checks=CHECKS)

    run()
