"""Authenticates the caller by bearer token (RFC 6750). Reads headers only, so that a stranger is
refused before one byte of the body is read."""

import hmac

from flask import g, request

from ingest_api.components import components
from ingest_api.database import queries
from ingest_api.errors import (
    DefaultAdminToken,
    DeviceDisabled,
    EmptyToken,
    IngestError,
    InternalNotConfigured,
    InvalidAdminToken,
    InvalidInternalToken,
    InvalidMetricsToken,
    InvalidScheme,
    InvalidToken,
    MissingToken,
)
from ingest_api.models.devices import Device
from ingest_api.settings import DEFAULT_ADMIN_TOKEN
from ingest_api.tokens import hash_token
from ingest_api.web.nginx import is_from_this_machine


def authenticate_device() -> Device:
    """Return the device whose token the request carries; put its id into the log line."""
    token_hash = hash_token(_bearer_token())
    with components().database.upload_connection(token_hash) as connection:
        device = queries.devices.find_device_by_token(connection, token_hash)
    if device is None:
        raise InvalidToken
    g.device_id = device.device_id
    if not device.is_enabled:
        raise DeviceDisabled
    return device


def require_admin() -> None:
    """Refuse a request without ADMIN_TOKEN; for `before_request`. The published default opens
    nothing to others, also when a proxy on this machine passes their requests on."""
    token = components().settings.admin_token
    _require(token, InvalidAdminToken)
    if token == DEFAULT_ADMIN_TOKEN and request.method != "OPTIONS" and not is_from_this_machine():
        raise DefaultAdminToken


def require_internal() -> None:
    """Refuse a request without INTERNAL_TOKEN; for `before_request`."""
    _require(components().settings.internal_token, InvalidInternalToken)


def require_metrics() -> None:
    """Refuse a request without METRICS_TOKEN, unless it comes from this machine and through no
    proxy."""
    token = components().settings.metrics_token
    if is_from_this_machine():
        return
    if not token or not hmac.compare_digest(_bearer_token().encode(), token.encode()):
        raise InvalidMetricsToken


def _require(expected: str, refusal: type[IngestError]) -> None:
    if request.method == "OPTIONS":  # browsers send no token with it; it reveals nothing
        return
    if not expected:
        raise InternalNotConfigured
    if not hmac.compare_digest(_bearer_token().encode(), expected.encode()):
        raise refusal


def _bearer_token() -> str:
    header = request.headers.get("Authorization", "").strip()
    if not header:
        raise MissingToken
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidScheme
    if not token.strip():
        raise EmptyToken
    return token.strip()
