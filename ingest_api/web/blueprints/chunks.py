"""Uploads from recorder agents."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.failpoints import Failpoint, reached
from ingest_api.schemas.uploads import dump_receipt, load_recording
from ingest_api.usecases.uploads import accept_chunk, announce_chunk
from ingest_api.web.auth import authenticate_device
from ingest_api.web.body import current_request

blueprint = Blueprint("chunks", __name__)


@blueprint.post("/chunks")
def upload() -> ResponseReturnValue:
    device = authenticate_device()
    storage = components().storage
    with storage.incoming() as incoming:
        form = current_request().receive_chunk(incoming)
        recording = load_recording(form, components().settings.naive_timestamp_zone)
        receipt = accept_chunk(
            device,
            recording,
            incoming,
            storage=storage,
            database=components().database,
            waiting_status=components().settings.waiting_status,
        )
    receipt = announce_chunk(
        receipt, announcer=components().announcer, database=components().database
    )
    reached(Failpoint.ANSWERING)
    return jsonify(dump_receipt(receipt))
