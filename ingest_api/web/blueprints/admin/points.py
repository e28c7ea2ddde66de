"""The names and time zones of points, for administrators; requires the admin token."""

from uuid import UUID

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.errors import PointNotFound
from ingest_api.models.devices import Point
from ingest_api.schemas.answers import PointAnswer
from ingest_api.schemas.fields import load, parse_uuid
from ingest_api.schemas.points import NewPointSchema, dump_point
from ingest_api.usecases import points
from ingest_api.web.auth import require_admin
from ingest_api.web.body import json_body
from ingest_api.web.openapi.operations import describe

blueprint = Blueprint("admin_points", __name__)
blueprint.before_request(require_admin)


@blueprint.get("/points/<point_id>")
@describe("Return a point", answer=PointAnswer, errors=(PointNotFound,))
def get_point(point_id: str) -> ResponseReturnValue:
    with components().database.connection() as connection:
        point = points.get_point(connection, _key(point_id))
    return jsonify(dump_point(point))


@blueprint.put("/points/<point_id>")
@describe(
    "Set what is known of a point",
    body=NewPointSchema,
    answer=PointAnswer,
    errors=(PointNotFound,),
)
def put_point(point_id: str) -> ResponseReturnValue:
    point = Point(_key(point_id), **load(NewPointSchema(), json_body()))
    with components().database.connection() as connection:
        point = points.put_point(connection, point)
    return jsonify(dump_point(point))


def _key(point_id: str) -> UUID:
    try:
        return parse_uuid(point_id)
    except ValueError:
        raise PointNotFound from None
