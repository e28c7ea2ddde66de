"""Pages of lists: their parameters, and the link to the next one."""

from typing import Any
from urllib.parse import urlencode

from flask import Response, jsonify, request
from marshmallow import Schema

from ingest_api.schemas.queries import load_query


def query(schema: Schema) -> dict[str, Any]:
    """Return the parameters of the request's URL. ValidationFailed."""
    return load_query(schema, request.args)


def page(content: dict[str, Any], cursor: str | None) -> Response:
    """Return a page, with the cursor of the next one and, if there is any, a link (RFC 8288)."""
    response = jsonify(content | {"next": cursor})
    if cursor is not None:
        following = urlencode(request.args.to_dict() | {"cursor": cursor})
        response.headers["Link"] = f'<{request.path}?{following}>; rel="next"'
    return response
