"""Devices, as they are registered, and the points where they are."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class Device:
    """A registered device. Its token, even hashed, stays in the database."""

    device_id: UUID
    point_id: UUID
    register_id: UUID
    is_enabled: bool
    created_at: datetime
    last_seen_at: datetime | None
    name: str | None = None  # for people
    point_name: str | None = None


@dataclass(frozen=True)
class Point:
    """A place with devices. One of which nothing is known has no name and is in UTC."""

    point_id: UUID
    name: str | None = None
    time_zone: str = "UTC"  # an IANA name: whose midnights its days begin at
