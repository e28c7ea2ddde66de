"""The use case: which minutes each device has recorded, and why the others are missing.

What was recorded comes from `recorded_hours`, which outlives the audio; where gaps begin and end,
from the chunks that are there.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from ingest_api.database import queries
from ingest_api.database.pool import Connection
from ingest_api.display import printable
from ingest_api.errors import CoverageTooLarge, DeviceNotFound, OperatorError, PointNotFound
from ingest_api.models.coverage import (
    MINUTE,
    Break,
    DeviceCoverage,
    Gap,
    GapReason,
    Interval,
    Step,
    Timeline,
)
from ingest_api.models.days import split, zone_of
from ingest_api.models.devices import DeviceSelection, Place

DEVICE_MINUTES = 500_000
"""The most that one question may be about, as devices times minutes: eleven devices for a month."""

STEPS = 50_000
"""The most steps in an answer."""


class AmbiguousName(OperatorError):
    """Several points have a name."""


SHORTEST_OVERLAP = timedelta(seconds=1)
"""Agents may round their timestamps to seconds."""


def list_places(connection: Connection, selection: DeviceSelection) -> list[Place]:
    """Return the selected devices, with where they are. DeviceNotFound if there are none."""
    places = queries.coverage.list_places(connection, **vars(selection))
    if not places:
        raise DeviceNotFound("No device is registered there")
    return places


def find_point(connection: Connection, name: str) -> UUID:
    """Return the point of a name. PointNotFound; AmbiguousName if several have it."""
    found = queries.points.find_points(connection, name)
    if not found:
        raise PointNotFound(f"There is no point named {printable(name)}")
    if len(found) > 1:
        ids = ", ".join(map(str, found))
        raise AmbiguousName(f"Several points are named {printable(name)}", f"give an id: {ids}")
    return found[0]


def get_coverage(
    connection: Connection, places: Sequence[Place], asked: Interval, step: timedelta
) -> list[DeviceCoverage]:
    """Return what each device has recorded in a time, as far as that is over. CoverageTooLarge.

    The days are those of the first device's point.
    """
    _require_moderate(len(places), asked, step)
    steps = split(asked, step, zone_of(places[0].time_zone))
    end = max(asked.start, min(asked.end, datetime.now(UTC)))
    timeline = Timeline(Interval(asked.start, end))
    ids = [place.device_id for place in places]
    bounds = vars(timeline.bounds)
    hours = _by_device(queries.coverage.list_recorded_hours(connection, ids, **bounds))
    breaks = _by_device(queries.coverage.list_breaks(connection, ids, SHORTEST_OVERLAP, **bounds))
    lost = _by_device(queries.coverage.list_missing_files(connection, ids, **bounds))
    return [
        _cover(
            place,
            _Facts(
                timeline,
                recorded=timeline.recorded(hours[place.device_id]),
                breaks=breaks[place.device_id],
                lost=timeline.minutes(row.interval for row in lost[place.device_id]),
            ),
            steps,
        )
        for place in places
    ]


def _require_moderate(devices: int, bounds: Interval, step: timedelta) -> None:
    length = bounds.end - bounds.start
    if devices * length > DEVICE_MINUTES * MINUTE or devices * length > STEPS * step:
        raise CoverageTooLarge(
            f"{CoverageTooLarge.message}: at most {DEVICE_MINUTES:,} minutes and {STEPS:,} steps, "
            f"counted for each of {devices:,} devices. Choose a shorter time, longer steps or "
            "fewer devices"
        )


@dataclass(frozen=True)
class _Facts:
    """What the ledger says of a device in a time; minutes are numbered as the timeline does."""

    timeline: Timeline
    recorded: int
    breaks: Sequence[Break]
    lost: int  # the minutes of recordings whose files are missing


def _cover(place: Place, facts: _Facts, steps: Sequence[Interval]) -> DeviceCoverage:
    timeline = facts.timeline
    return DeviceCoverage(
        place,
        share=timeline.share(facts.recorded, timeline.bounds),
        steps=[Step(step.start, timeline.share(facts.recorded, step)) for step in steps],
        gaps=_gaps(place, facts),
        overlaps=_overlaps(timeline.bounds, facts.breaks),
    )


def _gaps(place: Place, facts: _Facts) -> list[Gap]:
    """Return the times without a chunk that is there, each with its reason, in order."""
    timeline, recorded = facts.timeline, facts.recorded
    found = _holes(timeline.bounds, facts.breaks)
    holes = [hole for hole in found if timeline.minutes([hole])]
    absent = timeline.minutes(holes)
    may_come = timeline.minutes([_open_end(place, timeline.bounds)])
    reasons = {
        GapReason.MISSING: absent & ~recorded & ~may_come,
        GapReason.NOT_YET: absent & ~recorded & may_come,
        GapReason.FILE_MISSING: absent & recorded & facts.lost,
        GapReason.REMOVED: absent & recorded & ~facts.lost,
    }
    # A run at the edge of a hole begins or ends exactly where the hole does.
    starts = {timeline.number(hole.start): hole.start for hole in holes}
    ends = {timeline.number(hole.end): hole.end for hole in holes}
    gaps = [
        Gap(
            starts.get(first) or timeline.instant(first),
            ends.get(after) or timeline.instant(after),
            reason,
        )
        for reason, minutes in reasons.items()
        for first, after in timeline.runs(minutes)
    ]
    return sorted(gaps, key=lambda gap: gap.start)


def _open_end(place: Place, bounds: Interval) -> Interval:
    """Return the time of which nothing has come yet. Devices send their oldest recording first."""
    end = bounds.end if place.is_enabled else bounds.start
    return Interval(min(place.recorded_until or bounds.start, end), end)


def _holes(bounds: Interval, breaks: Sequence[Break]) -> list[Interval]:
    """Return the times without a chunk that is there, in order."""
    found = [
        Interval(row.before_ts or bounds.start, row.start_ts or bounds.end)
        for row in breaks
        if row.before_ts is None or row.start_ts is None or row.before_ts < row.start_ts
    ]
    parts = [hole.within(bounds) for hole in found] if breaks else [bounds]
    return [part for part in parts if part]


def _overlaps(bounds: Interval, breaks: Sequence[Break]) -> list[Interval]:
    """Return the times of which two or more recordings are there, in order."""
    merged: list[Interval] = []
    for row in breaks:
        if not (row.before_ts and row.start_ts and row.end_ts and row.start_ts < row.before_ts):
            continue
        part = Interval(row.start_ts, min(row.end_ts, row.before_ts)).within(bounds)
        if part and merged and part.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(part.end, merged[-1].end))
        elif part:
            merged.append(part)
    return merged


class _OfDevice(Protocol):
    @property
    def device_id(self) -> UUID: ...


_T = TypeVar("_T", bound=_OfDevice)


def _by_device(rows: Iterable[_T]) -> defaultdict[UUID, list[_T]]:
    found: defaultdict[UUID, list[_T]] = defaultdict(list)
    for row in rows:
        found[row.device_id].append(row)
    return found
