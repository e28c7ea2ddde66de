"""The parameters of lists, in the query of a URL.

An unknown parameter is refused: a mistyped filter must not look like one that everything passes.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import RAISE, Schema, ValidationError, fields, validate
from werkzeug.datastructures import MultiDict

from ingest_api.models.chunks import ChunkSelection, ChunkStatus
from ingest_api.models.coverage import Interval
from ingest_api.models.devices import DeviceSelection
from ingest_api.models.fleet import DeviceState, FleetSelection
from ingest_api.schemas.fields import (
    FormInteger,
    IsoDateTime,
    Text,
    Uuid,
    load,
    require_printable,
    validation_failed,
)
from ingest_api.schemas.instants import instants

MOST_LISTED = 1000
LONGEST_TEXT = 200
YEARS = (1970, 2200)
"""Of coverage: no device has recorded before, and no clock is believed after."""

_STEP = re.compile(r"([1-9][0-9]{0,3})(min|h|d)")
_MINUTES = {"min": 1, "h": 60, "d": 1440}
_DAY = timedelta(days=1)


class QuerySchema(Schema):
    """What every list takes."""

    class Meta:
        unknown = RAISE

    limit = FormInteger(load_default=100, validate=validate.Range(1, MOST_LISTED))
    cursor = fields.String(load_default=None, validate=validate.Length(1, 400))


class _Instant(IsoDateTime):
    """A date and time; `+` stands for a space in a query, so that of an offset may be one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        value = re.sub(r" (?=[0-9]{2}:?[0-9]{2}\Z)", "+", value)
        return super()._deserialize(value, attr, data, **kwargs)


class Step(fields.Field[timedelta]):
    """A duration such as 1min, 15min, 1h or 1d: at most a day."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> timedelta:
        match = _STEP.fullmatch(value)
        step = timedelta(minutes=int(match[1]) * _MINUTES[match[2]]) if match else timedelta(0)
        if not timedelta(0) < step <= _DAY:
            raise ValidationError("Must be a duration such as 1min, 15min, 1h or 1d, at most 1d.")
        return step

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str:
        return f"{value // timedelta(minutes=1)}min"


class ChunkQuerySchema(QuerySchema):
    """The parameters of GET /admin/chunks."""

    point_id = Uuid(load_default=None)
    register_id = Uuid(load_default=None)
    device_id = Uuid(load_default=None)
    status = fields.Enum(ChunkStatus, by_value=True, load_default=None)
    from_ = _Instant(data_key="from", load_default=None)
    to = _Instant(load_default=None)
    order = fields.String(load_default="asc", validate=validate.OneOf(["asc", "desc"]))


class FleetQuerySchema(QuerySchema):
    """The parameters of GET /admin/fleet and of GET /admin/devices."""

    q = Text(load_default=None, validate=[validate.Length(1, LONGEST_TEXT), require_printable])
    state = fields.Enum(DeviceState, by_value=True, load_default=None)
    point_id = Uuid(load_default=None)


class CoverageQuerySchema(Schema):
    """The parameters of GET /admin/coverage."""

    class Meta:
        unknown = RAISE

    point_id = Uuid(load_default=None)
    register_id = Uuid(load_default=None)
    device_id = Uuid(load_default=None)
    from_ = _Instant(data_key="from", required=True)
    to = _Instant(required=True)
    step = Step(load_default=timedelta(hours=1), metadata={"pattern": _STEP.pattern})


def load_query(schema: Schema, query: "MultiDict[str, str]") -> dict[str, Any]:
    """Return the parameters, each given once. ValidationFailed."""
    repeated = [name for name in query if len(query.getlist(name)) > 1]
    if repeated:
        raise validation_failed({name: ["Given more than once."] for name in repeated})
    values: dict[str, Any] = load(schema, query.to_dict())
    return values


def chunk_selection(values: Mapping[str, Any], naive_zone: ZoneInfo | None) -> ChunkSelection:
    """Return which chunks the parameters select. ValidationFailed, NaiveTimestamp."""
    start, end = (_instant(name, values[key], naive_zone) for name, key in _BOUNDS)
    _require_order(start, end)
    return ChunkSelection(
        point_id=values["point_id"],
        register_id=values["register_id"],
        device_id=values["device_id"],
        status=values["status"],
        recorded_from=start,
        recorded_until=end,
        newest_first=values["order"] == "desc",
    )


def refuse_paging(query: Mapping[str, str]) -> None:
    """Refuse the parameters of pages in a query for a whole selection. ValidationFailed."""
    if given := {"limit", "cursor"} & query.keys():
        error = ["Is for pages in JSON: this format returns the whole selection."]
        raise validation_failed(dict.fromkeys(given, error))


def device_selection(values: Mapping[str, Any]) -> DeviceSelection:
    """Return whose coverage is asked for. ValidationFailed unless one id is given."""
    names = ("point_id", "register_id", "device_id")
    given = {name: values[name] for name in names if values[name] is not None}
    if len(given) != 1:
        error = ["Exactly one of point_id, register_id and device_id must be given."]
        raise validation_failed(dict.fromkeys(given or names, error))
    return DeviceSelection(**given)


def fleet_selection(values: Mapping[str, Any]) -> FleetSelection:
    """Return which devices the parameters select."""
    return FleetSelection(values["q"], values["state"], values["point_id"])


def coverage_interval(values: Mapping[str, Any], naive_zone: ZoneInfo | None) -> Interval:
    """Return the time that the parameters name. ValidationFailed, NaiveTimestamp."""
    start, end = (_instant(name, values[key], naive_zone) for name, key in _BOUNDS)
    assert start and end  # noqa: S101  required by the schema
    _require_order(start, end)
    for name, instant in (("from", start), ("to", end)):
        if not YEARS[0] <= instant.year < YEARS[1]:
            raise validation_failed({name: [f"Must be in the years {YEARS[0]} to {YEARS[1] - 1}."]})
    return Interval(start, end)


_BOUNDS = (("from", "from_"), ("to", "to"))


def _instant(name: str, value: datetime | None, naive_zone: ZoneInfo | None) -> datetime | None:
    return None if value is None else instants(name, value, naive_zone)[0].astimezone(UTC)


def _require_order(start: datetime | None, end: datetime | None) -> None:
    if start and end and start >= end:
        raise validation_failed({"from": ["Must be before `to`."]})
