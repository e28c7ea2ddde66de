"""Which minutes were recorded, for administrators; requires the admin token."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.errors import CoverageTooLarge, DeviceNotFound
from ingest_api.schemas.answers import CoverageAnswer
from ingest_api.schemas.coverage import dump_coverage
from ingest_api.schemas.queries import CoverageQuerySchema, coverage_interval, device_selection
from ingest_api.usecases.coverage import get_coverage, list_places
from ingest_api.web.auth import require_admin
from ingest_api.web.openapi.operations import describe
from ingest_api.web.paging import query

blueprint = Blueprint("admin_coverage", __name__)
blueprint.before_request(require_admin)


@blueprint.get("/coverage")
@describe(
    "Which minutes were recorded, and why others are missing",
    query=CoverageQuerySchema,
    answer=CoverageAnswer,
    errors=(DeviceNotFound, CoverageTooLarge),
)
def coverage() -> ResponseReturnValue:
    values = query(CoverageQuerySchema())
    asked = coverage_interval(values, components().settings.naive_timestamp_zone)
    selection = device_selection(values)
    with components().database.connection() as connection:
        places = list_places(connection, selection)
        found = get_coverage(connection, places, asked, values["step"])
    return jsonify(dump_coverage(found, asked, values["step"]))
