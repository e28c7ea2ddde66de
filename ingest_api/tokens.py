"""Bearer tokens: their format, how one is generated, and how one is stored."""

import hashlib
import re
import secrets

TOKEN_PATTERN = re.compile(r"[\x21-\x7e]{16,256}")
TOKEN_RULE = "must be 16 to 256 printable ASCII characters without spaces"  # noqa: S105


def generate_token() -> str:
    """Return a new secret of 256 random bits, fit for an HTTP header and a YAML file."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """Return the hash of a token as the database stores it: SHA-256, lower-case hex.

    It has no salt: nobody chose the secret, and an index must find the hash.
    """
    return hashlib.sha256(token.encode()).hexdigest()
