"""Points: the places where devices are."""

from uuid import UUID

from ingest_api.database.pool import Connection
from ingest_api.database.statements import row, rows, scalars
from ingest_api.models.devices import Point


def get_point(connection: Connection, point_id: UUID) -> Point | None:
    """Return a point that has a row or a device."""
    return row(connection, Point, "points/get_point", point_id=point_id)


def put_point(connection: Connection, point: Point) -> Point:
    """Return the point as it is stored."""
    return rows(connection, Point, "points/put_point", **vars(point))[0]


def find_points(connection: Connection, name: str) -> list[UUID]:
    """Return the points of a name, whatever its capitals."""
    return scalars(connection, UUID, "points/find_points", name=name)
