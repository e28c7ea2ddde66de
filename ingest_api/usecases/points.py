"""The use cases of points: what they are called, and in which time zone they are."""

from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.errors import PointNotFound
from ingest_api.models.devices import Point


def get_point(connection: Connection, point_id: UUID) -> Point:
    """Return what is known of a point. PointNotFound for one without a device, too."""
    point = queries.points.get_point(connection, point_id)
    if point is None:
        raise PointNotFound
    return point


def put_point(connection: Connection, point: Point) -> Point:
    """Set what is known of a point; it may still be without a device."""
    return queries.points.put_point(connection, point)
