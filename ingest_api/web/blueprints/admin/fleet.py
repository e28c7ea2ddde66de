"""What each device is doing, for administrators; requires the admin token."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.models.fleet import FleetPosition
from ingest_api.schemas.answers import FleetAnswer
from ingest_api.schemas.cursors import dump_cursor, load_cursor
from ingest_api.schemas.fleet import dump_covered
from ingest_api.schemas.queries import FleetQuerySchema, fleet_selection
from ingest_api.usecases import fleet
from ingest_api.web.auth import require_admin
from ingest_api.web.openapi.operations import describe
from ingest_api.web.paging import page, query

blueprint = Blueprint("admin_fleet", __name__)
blueprint.before_request(require_admin)


@blueprint.get("/fleet")
@describe("What each device is doing, the worst first", query=FleetQuerySchema, answer=FleetAnswer)
def list_fleet() -> ResponseReturnValue:
    values = query(FleetQuerySchema())
    selection = fleet_selection(values)
    after = load_cursor(FleetPosition, values["cursor"], vars(selection))
    bounds = components().settings.bounds
    with components().database.connection() as connection:
        counts = fleet.count_states(connection, bounds)
        found = fleet.list_fleet(connection, bounds, selection, after=after, limit=values["limit"])
    content = {"counts": counts, "devices": [dump_covered(device) for device in found.devices]}
    return page(content, dump_cursor(found.next, vars(selection)))
