"""Devices, for those who have the admin token."""

from http import HTTPStatus

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api import devices, queries
from ingest_api.auth import require_admin
from ingest_api.errors import DeviceNotFound
from ingest_api.request import json_body
from ingest_api.schemas import (
    DeviceChangeSchema,
    NewDeviceSchema,
    dump_device,
    load,
    parse_uuid,
)
from ingest_api.services import services

blueprint = Blueprint("admin", __name__)
blueprint.before_request(require_admin)


@blueprint.post("/devices")
def create_device() -> ResponseReturnValue:
    values = load(NewDeviceSchema(), json_body())
    token = values.pop("token_plain")
    with services().database.connection() as connection:
        device = devices.create_device(connection, token=token, **values)
    return jsonify(dump_device(device)), HTTPStatus.CREATED


@blueprint.get("/devices")
def list_devices() -> ResponseReturnValue:
    with services().database.connection() as connection:
        found = queries.list_devices(connection)
    return jsonify([dump_device(device) for device in found])


@blueprint.patch("/devices/<device_id>")
def change_device(device_id: str) -> ResponseReturnValue:
    values = load(DeviceChangeSchema(), json_body())
    try:
        key = parse_uuid(device_id)
    except ValueError:
        raise DeviceNotFound from None
    with services().database.connection() as connection:
        device = devices.update_device(
            connection,
            key,
            is_enabled=values.get("is_enabled"),
            token=values.get("token_plain"),
        )
    return jsonify(dump_device(device))
