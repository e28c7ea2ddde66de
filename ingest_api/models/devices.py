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

    @property
    def position(self) -> "DevicePosition":
        return DevicePosition(self.created_at, self.device_id)


@dataclass(frozen=True)
class NewDevice:
    """A device that is to be registered."""

    device_id: UUID
    point_id: UUID
    register_id: UUID
    name: str | None = None


@dataclass(frozen=True)
class DeviceSelection:
    """Which devices: all those of a point, of a register, or one."""

    point_id: UUID | None = None
    register_id: UUID | None = None
    device_id: UUID | None = None


@dataclass(frozen=True)
class DevicePosition:
    """The last device of a page, in the order of registration."""

    created_at: datetime
    device_id: UUID


@dataclass(frozen=True)
class Place:
    """A device, with what is needed to judge what it has recorded."""

    device_id: UUID
    name: str | None
    point_id: UUID
    point_name: str | None
    register_id: UUID
    time_zone: str
    is_enabled: bool
    recorded_until: datetime | None


@dataclass(frozen=True)
class Point:
    """A place with devices. One of which nothing is known has no name and is in UTC."""

    point_id: UUID
    name: str | None = None
    time_zone: str = "UTC"  # an IANA name: whose midnights its days begin at
