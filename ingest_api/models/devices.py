"""Devices, as they are registered."""

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
