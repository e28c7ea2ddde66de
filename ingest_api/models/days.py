"""Days as people count them: from midnight to midnight in a time zone, so with 23 to 25 hours."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest_api.models.coverage import Interval

DAY = timedelta(days=1)


def zone_of(name: str) -> ZoneInfo:
    """Return a point's time zone. One that is unknown here, which only plain SQL or other time zone
    data can leave, counts as UTC: it must not hide the others."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def day_of(day: date, zone: ZoneInfo) -> Interval:
    """Return the time from the midnight at which a day begins until the next one."""
    return Interval(midnight(day, zone), midnight(day + DAY, zone))


def split(bounds: Interval, step: timedelta, zone: ZoneInfo) -> list[Interval]:
    """Split a time into steps, of which the last may be shorter. A day's ends at midnight."""
    steps, start = [], bounds.start
    while start < bounds.end:
        end = min(_next_midnight(start, zone) if step == DAY else start + step, bounds.end)
        steps.append(Interval(start, end))
        start = end
    return steps


def _next_midnight(instant: datetime, zone: ZoneInfo) -> datetime:
    return midnight(instant.astimezone(zone).date() + DAY, zone)
