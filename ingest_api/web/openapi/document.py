"""Builds the description of the API from the routes, and from what stands beside each view."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, fields

from ingest_api import errors
from ingest_api.errors import IngestError
from ingest_api.schemas.answers import ProblemAnswer
from ingest_api.schemas.queries import Step
from ingest_api.schemas.uploads import RecordingSchema
from ingest_api.web.chunk_file import AUDIO
from ingest_api.web.multipart import CHUNK_FILE
from ingest_api.web.openapi.operations import Operation, operation_of

_ABOUT = """\
Receives audio from devices and never loses any of it. Errors are problem documents (RFC 9457).
Besides those that are listed, each path answers an unknown method with 405 `method_not_allowed`,
and an unknown path is a 404 `not_found`."""

_BEARER = (errors.MissingToken, errors.InvalidScheme, errors.EmptyToken)
_TOKENS: dict[str, tuple[str, tuple[type[IngestError], ...]]] = {
    "/api/v1/admin": ("admin", (errors.InvalidAdminToken, errors.DefaultAdminToken)),
    "/api/v1/internal": ("internal", (errors.InvalidInternalToken, errors.InternalNotConfigured)),
    "/api/v1/chunks": ("device", (errors.InvalidToken, errors.DeviceDisabled)),
    "/metrics": ("metrics", (errors.InvalidMetricsToken,)),
}
"""By the beginning of a path: whose token it takes, and how it refuses others."""

_BODY = (
    *(errors.BadRequest, errors.TruncatedBody, errors.RequestTimeout, errors.RequestTooLarge),
    *(errors.UnsupportedMediaType, errors.UnsupportedEncoding, errors.ValidationFailed),
)
_QUERY = (errors.ValidationFailed, errors.NaiveTimestamp)
_DATABASE = (errors.DatabaseUnavailable,)
_UUID = {"type": "string", "format": "uuid"}
_BYTES = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
_MEDIA = {"application/json": {"type": "object"}, AUDIO: {"type": "string", "format": "binary"}}
_FREE = ("/health", "/metrics")  # answer without the database, too


def build(app: Flask) -> dict[str, Any]:
    """Return the description of every route of an app that is described."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    info = {"description": _ABOUT}
    spec = APISpec("Ingest API", "1", "3.1.0", plugins=[plugin], info=info)
    plugin.map_to_openapi_type(Step, "string", None)  # type: ignore[no-untyped-call]
    for token in sorted({token for token, _ in _TOKENS.values()}):
        spec.components.security_scheme(token, {"type": "http", "scheme": "bearer"})
    spec.components.schema("Problem", schema=ProblemAnswer)
    for rule in app.url_map.iter_rules():
        if operation := operation_of(app.view_functions[rule.endpoint]):
            method = next(iter((rule.methods or set()) - {"HEAD", "OPTIONS"})).lower()
            path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
            described = _described(plugin, path, operation)
            spec.path(path, operations={method: described | {"operationId": _id(rule.endpoint)}})
    document: dict[str, Any] = _portable(spec.to_dict())
    return document


def _name(schema: Any) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return re.sub(r"(Answer|Schema)$", "", kind.__name__).lstrip("_")


def _id(endpoint: str) -> str:
    return endpoint.replace(".", "_")


def _described(plugin: MarshmallowPlugin, path: str, operation: Operation) -> dict[str, Any]:
    token, refusals = next(
        (value for prefix, value in _TOKENS.items() if path.startswith(prefix)), (None, ())
    )
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _UUID}
        for name in re.findall(r"{(\w+)}", path)
    ]
    if operation.query and plugin.converter:
        listed = plugin.converter.schema2parameters(operation.query, location="query")
        parameters += map(_given, listed)
    found: dict[str, Any] = {"summary": operation.summary, "parameters": parameters}
    found["security"] = [{token: []}] if token else []
    if operation.body:
        found["requestBody"] = _content({"application/json": operation.body})
    if operation.is_upload:
        found["requestBody"] = _content({"multipart/form-data": _upload(plugin)})
    expected = [*(_BEARER if refusals else ()), *refusals, *operation.errors]
    expected += [*_BODY] if operation.body or operation.is_upload else []
    expected += [*_QUERY] if operation.query else []
    expected += [] if path.startswith(_FREE) else [*_DATABASE, IngestError]
    found["responses"] = _successes(operation) | _problems(expected)
    return found


def _given(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter of a query, which is left out and never null."""
    schema = dict(parameter["schema"])
    if isinstance(schema.get("type"), list):
        [schema["type"]] = [kind for kind in schema["type"] if kind != "null"]
    if schema.get("default", "") is None:
        del schema["default"]
    if None in schema.get("enum", ()):
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    return parameter | {"schema": schema}


def _content(schemas: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": s} for kind, s in schemas.items()}}


def _upload(plugin: MarshmallowPlugin) -> dict[str, Any]:
    converter: Any = plugin.converter
    form: dict[str, Any] = converter.schema2jsonschema(RecordingSchema())
    form["properties"][CHUNK_FILE] = _BYTES
    form["required"] = sorted([*form["required"], CHUNK_FILE])
    return form


def _successes(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer:
        schema: Any = operation.answer
        if operation.is_list:
            whole = {"type": "array", "items": _item(operation.answer)}
            schema = {"oneOf": [operation.answer, whole]}
        content["application/json"] = {"schema": schema}
    for kind in operation.media:
        content[kind] = {"schema": _MEDIA.get(kind, {"type": "string"})}
    answer: dict[str, Any] = {"description": "Success", "content": content}
    if "next" in getattr(operation.answer, "_declared_fields", {}):
        link = {"schema": {"type": "string"}, "description": "The next page (RFC 8288)."}
        answer["headers"] = {"Link": link}
    found = {str(status): answer for status in operation.statuses}
    if operation.is_file:
        found["206"] = answer | {"description": "The ranges asked for"}
        found["304"] = {"description": "Not modified"}
    return found


def _item(page: type[Schema]) -> type[Schema]:
    listed = next(f for f in page._declared_fields.values() if isinstance(f, fields.List))
    return listed.inner.nested  # type: ignore[attr-defined,no-any-return]


def _problems(expected: Iterable[type[IngestError]]) -> dict[str, Any]:
    found: dict[HTTPStatus, dict[str, type[IngestError]]] = defaultdict(dict)
    for error in expected:
        found[error.status].setdefault(error.code, error)
    return {str(status.value): _problem(of_status) for status, of_status in sorted(found.items())}


def _problem(found: Mapping[str, type[IngestError]]) -> dict[str, Any]:
    """Describe the errors of a status by their codes, each with its document."""
    documents = {
        code: {
            "value": errors.document(
                *(error.status, code, error.message),
                retryable=error.retryable,
                request_id="4125b6fd243c4fc58a53dcbbcc60eed6",
            )
        }
        for code, error in found.items()
    }
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": documents}
    return {"description": ", ".join(found), "content": {"application/problem+json": problem}}


def _portable(value: Any) -> Any:
    """Return the same with patterns as ECMA-262 has them, which Python's are not quite."""
    if isinstance(value, dict):
        return {
            key: _ecma(item) if key == "pattern" and isinstance(item, str) else _portable(item)
            for key, item in value.items()
        }
    return [_portable(item) for item in value] if isinstance(value, list | tuple) else value


def _ecma(pattern: str) -> str:
    return f"^(?:{pattern.removesuffix(chr(92) + 'Z')})$"
