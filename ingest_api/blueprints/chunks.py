"""Uploads from recorder agents."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.auth import authenticate_device
from ingest_api.ingest import accept_chunk, announce_chunk
from ingest_api.request import current_request
from ingest_api.schemas import dump_receipt, load_recording
from ingest_api.services import services
from ingest_api.steps import Step, passed

blueprint = Blueprint("chunks", __name__)


@blueprint.post("/chunks")
def upload() -> ResponseReturnValue:
    device = authenticate_device()
    storage = services().storage
    with storage.incoming() as incoming:
        form = current_request().receive_chunk(incoming)
        recording = load_recording(form, services().settings.naive_timestamp_zone)
        receipt = accept_chunk(
            device,
            recording,
            incoming,
            storage=storage,
            database=services().database,
            waiting_status=services().settings.waiting_status,
        )
    receipt = announce_chunk(receipt, announcer=services().announcer, database=services().database)
    passed(Step.ANSWERING)
    return jsonify(dump_receipt(receipt))
