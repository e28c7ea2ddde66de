"""Coverage, for the admin API and the commands."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ingest_api.models.coverage import DeviceCoverage, Interval
from ingest_api.schemas.fields import rfc3339, rounded


def dump_coverage(
    found: Sequence[DeviceCoverage], asked: Interval, step: timedelta
) -> dict[str, Any]:
    """Return what devices have recorded in a time."""
    return {
        **_interval(asked),
        "step_seconds": int(step.total_seconds()),
        "time_zone": found[0].place.time_zone,
        "devices": [_device(device) for device in found],
    }


def _device(covered: DeviceCoverage) -> dict[str, Any]:
    place = covered.place
    return {
        "device_id": place.device_id,
        "name": place.name,
        "point_id": place.point_id,
        "point_name": place.point_name,
        "register_id": place.register_id,
        "share": rounded(covered.share),
        "steps": [
            {"from": rfc3339(step.start), "share": rounded(step.share)} for step in covered.steps
        ],
        "gaps": [_interval(gap) | {"reason": gap.reason} for gap in covered.gaps],
        "overlaps": [_interval(overlap) for overlap in covered.overlaps],
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {"from": rfc3339(interval.start), "to": rfc3339(interval.end)}
