"""The fleet, for the admin API and the commands."""

from datetime import datetime
from typing import Any

from ingest_api.models.fleet import CoveredDevice
from ingest_api.schemas.fields import rfc3339, rounded


def dump_covered(covered: CoveredDevice) -> dict[str, Any]:
    """Return what is known of a device of the fleet."""
    device = covered.device
    refusal = device.refusal_code and {
        "code": device.refusal_code,
        "detail": device.refusal_detail,
        "time": _time(device.refused_at),
        "count": device.refusals,
    }
    offset = device.clock_offset
    return {
        "device_id": device.device_id,
        "name": device.name,
        "point_id": device.point_id,
        "point_name": device.point_name,
        "register_id": device.register_id,
        "time_zone": device.time_zone,
        "state": device.state,
        "since": _time(device.since),
        "recorded_until": _time(device.recorded_until),
        "last_seen_at": _time(device.last_seen_at),
        "clock_offset": None if offset is None else round(offset.total_seconds(), 3),
        "refusal": refusal,
        "coverage": {"today": rounded(covered.today), "last_7_days": rounded(covered.week)},
    }


def _time(instant: datetime | None) -> str | None:
    return rfc3339(instant) if instant else None
