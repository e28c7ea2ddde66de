"""The digest that a request declares in its head: `Repr-Digest` (RFC 9530), of which SHA-256 is
understood. Here it is that of the recording, not that of the form around it."""

import base64
import binascii
import re

from flask import request

from ingest_api.errors import BadRequest

HEADER = "Repr-Digest"
_SHA256_BYTES = 32

# A dictionary (RFC 9651, section 3.2). Only the values of `sha-256` are looked into.
_MEMBER = re.compile(r'[ \t]*([a-z*][a-z0-9_.*-]*)((?:[^",]|"(?:[^"\\]|\\.)*")*)(?:,|\Z)')
_SHA256 = re.compile(r"=:([A-Za-z0-9+/]{43})=?:[ \t]*(?:;.*)?")


def declared_digest() -> bytes | None:
    """Return the SHA-256 in the request's head, None if it has no `Repr-Digest`. BadRequest."""
    text = request.headers.get(HEADER, "").strip(" \t")
    if not text:
        return None
    digests = {_sha256(value) for key, value in _members(text) if key == "sha-256"}
    if not digests:
        raise BadRequest(f"{HEADER} has no sha-256, the only algorithm that is understood here")
    if len(digests) > 1:
        raise BadRequest(f"{HEADER} has two different values of sha-256")
    return digests.pop()


def _members(text: str) -> list[tuple[str, str]]:
    """Return the keys of a dictionary, each with what follows it."""
    members, at = [], 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if not member:
            raise BadRequest(f"{HEADER} is malformed: send sha-256=:<base64>: (RFC 9530)")
        members.append((member[1], member[2]))
        at = member.end()
    return members


def _sha256(value: str) -> bytes:
    match = _SHA256.fullmatch(value)
    try:
        digest = base64.b64decode(f"{match[1]}=" if match else "", validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != _SHA256_BYTES:
        raise BadRequest(f"{HEADER}: the value of sha-256 is not :<base64 of 32 bytes>:")
    return digest
