"""Devices, for the admin API."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from marshmallow import RAISE, Schema, fields, validate

from ingest_api.models.devices import Device
from ingest_api.schemas.fields import JsonBoolean, Name, Uuid, rfc3339
from ingest_api.tokens import TOKEN_PATTERN, TOKEN_RULE


class NewDeviceSchema(Schema):
    """The body of POST /admin/devices."""

    class Meta:
        unknown = RAISE

    device_id = Uuid(required=True)
    point_id = Uuid(required=True)
    register_id = Uuid(required=True)
    name = Name()
    token_plain = fields.String(
        required=True, validate=validate.Regexp(TOKEN_PATTERN.pattern + r"\Z", error=TOKEN_RULE)
    )


class DeviceChangeSchema(Schema):
    """The body of PATCH /admin/devices/<device_id>."""

    class Meta:
        unknown = RAISE

    is_enabled = JsonBoolean()
    name = Name(allow_none=True)  # null removes it
    token_plain = fields.String(
        validate=validate.Regexp(TOKEN_PATTERN.pattern + r"\Z", error=TOKEN_RULE)
    )


def dump_device(device: Device) -> dict[str, Any]:
    return {
        "device_id": device.device_id,
        "point_id": device.point_id,
        "register_id": device.register_id,
        "is_enabled": device.is_enabled,
        "created_at": rfc3339(device.created_at),
        "last_seen_at": rfc3339(device.last_seen_at) if device.last_seen_at else None,
        "name": device.name,
        "point_name": device.point_name,
    }


def dump_devices(pages: Iterable[list[Device]]) -> Iterator[str]:
    """Yield a JSON array, page by page. If the pages fail, it stays without its end."""
    before = "["
    for page in pages:
        if page:
            listed = json.dumps([dump_device(device) for device in page], default=str)
            yield before + listed[1:-1]
            before = ", "
    yield "[]\n" if before == "[" else "]\n"
