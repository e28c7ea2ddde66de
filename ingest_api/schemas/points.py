"""Points, for the admin API."""

from typing import Any

from marshmallow import RAISE, Schema

from ingest_api.models.devices import Point
from ingest_api.schemas.fields import Name, TimeZone


class NewPointSchema(Schema):
    """The body of PUT /admin/points/<point_id>. What it leaves out is removed."""

    class Meta:
        unknown = RAISE

    name = Name(allow_none=True, load_default=None)
    time_zone = TimeZone(load_default="UTC")


def dump_point(point: Point) -> dict[str, Any]:
    return vars(point)
