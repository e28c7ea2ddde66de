"""Checks of heads, for the proxy: would the service refuse this request before it reads the body?

nginx asks with every request of a device or an administrator, before it takes the body from the
client. To others than the proxy there is nothing here.
"""

from http import HTTPStatus

from flask import Blueprint
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from ingest_api.web import auth
from ingest_api.web.nginx import is_check, requested

blueprint = Blueprint("checks", __name__)

_ALLOWED: ResponseReturnValue = ("", HTTPStatus.NO_CONTENT)
_WITHOUT_BODY = {"GET", "HEAD", "OPTIONS"}


@blueprint.before_request
def _require_proxy() -> None:
    if not is_check():
        raise NotFound


@blueprint.get("/device")
def check_device() -> ResponseReturnValue:
    """Refuse a token that is no device's. Another method than POST gets its 405 later."""
    method, _ = requested()
    if method not in _WITHOUT_BODY:
        auth.authenticate_device()
    return _ALLOWED


@blueprint.get("/admin")
def check_admin() -> ResponseReturnValue:
    """Refuse a token that is not ADMIN_TOKEN. Browsers send none with OPTIONS."""
    method, _ = requested()
    if method != "OPTIONS":
        auth.require_admin()
    return _ALLOWED
