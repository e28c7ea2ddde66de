"""Instants: timestamps with an offset from UTC, or in a zone that the operator has set."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ingest_api.errors import NaiveTimestamp
from ingest_api.schemas.fields import validation_failed


def instants(name: str, value: datetime, naive_zone: ZoneInfo | None) -> list[datetime]:
    """Return the UTC instants that a timestamp may mean: two when clocks go back (PEP 495).
    NaiveTimestamp, ValidationFailed."""
    if value.tzinfo is not None:
        readings = [value]
    elif naive_zone is not None:
        readings = [value.replace(tzinfo=naive_zone, fold=fold) for fold in (0, 1)]
    else:
        raise NaiveTimestamp(errors={name: ["Has no UTC offset."]})
    try:
        return [reading.astimezone(UTC) for reading in readings]
    except OverflowError:
        raise validation_failed({name: ["Is outside the years 1 to 9999 in UTC."]}) from None
