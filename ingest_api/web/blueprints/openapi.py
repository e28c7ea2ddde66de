"""The description of the API, for people and for generators of clients."""

import json
from functools import cache

from flask import Blueprint, Flask, Response, current_app, request
from flask.typing import ResponseReturnValue

from ingest_api.web.openapi.document import build
from ingest_api.web.openapi.operations import describe

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
@describe("This description", media=("application/json",))
def openapi() -> ResponseReturnValue:
    response = Response(_document(current_app._get_current_object()), mimetype="application/json")  # type: ignore[attr-defined]
    response.add_etag()
    return response.make_conditional(request)


@cache
def _document(app: Flask) -> bytes:
    return json.dumps(build(app), indent=2).encode()
