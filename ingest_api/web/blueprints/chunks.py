"""Uploads from the agents on devices, and what they ask before."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from ingest_api.components import Components, components
from ingest_api.errors import (
    ChecksumMismatch,
    DeviceMismatch,
    EmptyFile,
    FileTooLarge,
    IdentityMismatch,
    IngestError,
    InvalidInterval,
    NaiveTimestamp,
    StorageFull,
    StorageUnavailable,
)
from ingest_api.failpoints import Failpoint, reached
from ingest_api.models.chunks import Receipt
from ingest_api.models.devices import Device
from ingest_api.schemas.answers import KnownAnswer, ReceiptAnswer
from ingest_api.schemas.kept import KeptRecordingsSchema, dump_known, load_kept
from ingest_api.schemas.uploads import dump_receipt, load_upload, names_chunk
from ingest_api.web.auth import authenticate_device
from ingest_api.web.body import current_request, json_body
from ingest_api.web.digests import declared_digest
from ingest_api.web.openapi.operations import describe

blueprint = Blueprint("chunks", __name__)


@blueprint.post("/chunks")
@describe(
    "Upload a chunk. Sending it again changes nothing and gives the same receipt.",
    answer=ReceiptAnswer,
    is_upload=True,
    errors=(
        *(DeviceMismatch, IdentityMismatch, InvalidInterval, NaiveTimestamp, EmptyFile),
        *(ChecksumMismatch, FileTooLarge, StorageUnavailable, StorageFull),
    ),
)
def upload() -> ResponseReturnValue:
    device = authenticate_device()
    parts = components()
    try:
        receipt = _receive(parts, device)
    except IngestError as error:
        parts.refusals.record(device.device_id, error)
        raise
    parts.metrics.count_accepted(receipt)
    receipt = parts.uploads.announce(receipt)
    reached(Failpoint.ANSWERING)
    return jsonify(dump_receipt(receipt))


@blueprint.post("/chunks/known")
@describe(
    "Which of these recordings are stored: for an agent with a restored spool",
    body=KeptRecordingsSchema,
    answer=KnownAnswer,
    errors=(NaiveTimestamp, StorageUnavailable),
)
def known() -> ResponseReturnValue:
    device = authenticate_device()
    body = json_body()
    kept = load_kept(body, components().settings.naive_timestamp_zone)
    return jsonify(dump_known(body, components().replays.find_known(device, kept)))


def _receive(parts: Components, device: Device) -> Receipt:
    """Receive an upload; of a known one that declares its digest first, only the fields."""
    zone = parts.settings.naive_timestamp_zone
    digest = declared_digest()
    with parts.uploads.receive() as incoming:
        reader = current_request().form_reader(incoming)
        fields = reader.read_fields()
        if names_chunk(fields, digest):
            form = load_upload(fields, zone, digest)
            if form.sha256 and (receipt := parts.replays.confirm(device, form, form.sha256)):
                return receipt
        form = load_upload(reader.read_rest(), zone, digest)
        return parts.uploads.accept(device, form, incoming)
