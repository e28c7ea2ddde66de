"""Devices, for administrators; requires the admin token."""

from http import HTTPStatus
from itertools import chain

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.errors import DeviceExists, DeviceNotFound, TokenInUse
from ingest_api.models.devices import DevicePosition, NewDevice
from ingest_api.schemas.answers import DeviceAnswer, DevicePageAnswer
from ingest_api.schemas.cursors import dump_cursor, load_cursor
from ingest_api.schemas.devices import (
    DeviceChangeSchema,
    NewDeviceSchema,
    dump_device,
    dump_devices,
)
from ingest_api.schemas.fields import load, parse_uuid
from ingest_api.schemas.queries import FleetQuerySchema, fleet_selection
from ingest_api.usecases import devices
from ingest_api.web.auth import require_admin
from ingest_api.web.body import json_body
from ingest_api.web.openapi.operations import describe
from ingest_api.web.paging import page, query

blueprint = Blueprint("admin_devices", __name__)
blueprint.before_request(require_admin)


@blueprint.post("/devices")
@describe(
    "Register a device",
    body=NewDeviceSchema,
    answer=DeviceAnswer,
    statuses=(201,),
    errors=(DeviceExists, TokenInUse),
)
def create_device() -> ResponseReturnValue:
    values = load(NewDeviceSchema(), json_body())
    token = values.pop("token_plain")
    with components().database.connection() as connection:
        device = devices.create_device(connection, NewDevice(**values), token=token)
    return jsonify(dump_device(device)), HTTPStatus.CREATED


@blueprint.get("/devices")
@describe(
    "List devices, newest first: all as an array, or with parameters a page",
    query=FleetQuerySchema,
    answer=DevicePageAnswer,
    is_list=True,
)
def list_devices() -> ResponseReturnValue:
    if request.args:
        return _page()
    pages = devices.list_devices(components().database.connection)
    first = next(pages)  # so that a database that fails gets its own answer
    return Response(dump_devices(chain([first], pages)), mimetype="application/json")


def _page() -> Response:
    values = query(FleetQuerySchema())
    selection = fleet_selection(values)
    after = load_cursor(DevicePosition, values["cursor"], vars(selection))
    with components().database.connection() as connection:
        found, last = devices.list_page(
            connection, components().settings.bounds, selection, after=after, limit=values["limit"]
        )
    content = {"devices": [dump_device(device) for device in found]}
    return page(content, dump_cursor(last, vars(selection)))


@blueprint.patch("/devices/<device_id>")
@describe(
    "Change a device",
    body=DeviceChangeSchema,
    answer=DeviceAnswer,
    errors=(DeviceNotFound, TokenInUse),
)
def change_device(device_id: str) -> ResponseReturnValue:
    values = load(DeviceChangeSchema(), json_body())
    try:
        key = parse_uuid(device_id)
    except ValueError:
        raise DeviceNotFound from None
    with components().database.connection() as connection:
        device = devices.update_device(
            connection,
            key,
            is_enabled=values.get("is_enabled"),
            token=values.get("token_plain"),
            name=values["name"] or "" if "name" in values else None,
        )
    return jsonify(dump_device(device))
