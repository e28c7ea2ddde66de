"""Bearer tokens: their shape, how one is made, and what is kept of it."""

import hashlib
import re
import secrets

TOKEN_PATTERN = re.compile(r"[\x21-\x7e]{16,256}")
TOKEN_RULE = "must be 16 to 256 printable ASCII characters without spaces"  # noqa: S105


def generate_token() -> str:
    """A new secret of 256 random bits, fit for an HTTP header and a YAML file."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What the database keeps of a token: SHA-256, lower-case hex. No salt is needed for a
    secret that nobody chose, and the hash must be found by an index."""
    return hashlib.sha256(token.encode()).hexdigest()
