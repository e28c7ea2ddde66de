"""Uploads from the agents on devices."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import components
from ingest_api.errors import (
    DeviceMismatch,
    EmptyFile,
    FileTooLarge,
    IdentityMismatch,
    InvalidInterval,
    NaiveTimestamp,
    StorageFull,
    StorageUnavailable,
)
from ingest_api.failpoints import Failpoint, reached
from ingest_api.schemas.answers import ReceiptAnswer
from ingest_api.schemas.uploads import dump_receipt, load_upload
from ingest_api.web.auth import authenticate_device
from ingest_api.web.body import current_request
from ingest_api.web.openapi.operations import describe

blueprint = Blueprint("chunks", __name__)


@blueprint.post("/chunks")
@describe(
    "Upload a chunk. Sending it again changes nothing and gives the same receipt.",
    answer=ReceiptAnswer,
    is_upload=True,
    errors=(
        *(DeviceMismatch, IdentityMismatch, InvalidInterval, NaiveTimestamp, EmptyFile),
        *(FileTooLarge, StorageUnavailable, StorageFull),
    ),
)
def upload() -> ResponseReturnValue:
    device = authenticate_device()
    uploads = components().uploads
    recorded = components().refusals.recorded(device.device_id)
    with recorded, uploads.receive() as incoming:
        fields = current_request().receive_chunk(incoming)
        form = load_upload(fields, components().settings.naive_timestamp_zone)
        receipt = uploads.accept(device, form, incoming)
    components().metrics.count_accepted(receipt)
    receipt = uploads.announce(receipt)
    reached(Failpoint.ANSWERING)
    return jsonify(dump_receipt(receipt))
