"""Parsers for the text of one setting. ValueError says what it must be."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
from psycopg.conninfo import conninfo_to_dict

QUEUE_BACKENDS = ("postgres", "redis")
LOG_FORMATS = ("", "json", "text")  # "": text if standard error is a terminal
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,19}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def boolean(value: str) -> bool:
    if value.lower() in {"true", "1", "yes", "on"}:
        return True
    if value.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("must be true or false")


def log_level(value: str) -> str:
    if value.upper() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return value.upper()


def log_format(value: str) -> str:
    if value.lower() not in LOG_FORMATS:
        raise ValueError("must be json or text")
    return value.lower()


def host(value: str) -> str:
    if re.fullmatch(r"[0-9A-Za-z._-]+", value):
        return value
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an address or a host name") from None


def zone(value: str) -> ZoneInfo | None:
    if not value:
        return None
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be an IANA time zone such as Europe/Berlin") from None


def directory(value: str) -> Path:
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise ValueError("must be a folder of an existing user") from None


def origins(value: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in value.split(",") if origin.strip())
    if not all(re.fullmatch(r"\*|https?://[0-9A-Za-z.:_\[\]-]+", origin) for origin in origins):
        raise ValueError("must be origins such as https://app.example, or *")
    return origins


def token(value: str) -> str:
    if value and not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("must be printable ASCII without spaces")
    return value


def postgresql_url(value: str) -> str:
    """Drop a driver suffix (`postgresql+asyncpg://`) and check that libpq can read the rest."""
    url = re.sub(r"^(postgresql|postgres)(\+[a-z0-9_]+)?://", r"postgresql://", value)
    try:
        ports = str(conninfo_to_dict(url).get("port", "")).split(",")
        usable = url.startswith("postgresql://") and all(
            not port or 1 <= int(port) <= 65535 for port in ports
        )
    except (psycopg.Error, ValueError):
        usable = False
    if not usable:
        raise ValueError("must be a URL like postgresql://user:password@host:5432/name")
    return url


def queue_backend(value: str) -> str:
    if value.lower() not in QUEUE_BACKENDS:
        raise ValueError(f"must be one of {', '.join(QUEUE_BACKENDS)}")
    return value.lower()


def redis_url(value: str) -> str:
    """Check that redis-py understands a URL, which it does not do itself.

    It takes part of a password with an unescaped / # or ? for the port, and shows it in an error.
    It takes a database that it cannot read for database 0.
    """
    url = urlsplit(value)
    try:
        usable = bool(url.netloc or url.scheme == "unix") and url.port != 0
    except ValueError:
        usable = False
    place = r"/.+" if url.scheme == "unix" else r"(/[0-9]*)?"
    usable &= url.scheme in {"redis", "rediss", "unix"} and bool(re.fullmatch(place, url.path))
    if not usable or url.fragment or "@" in url.query or re.search(r"\s", value):
        raise ValueError("must be a URL like redis://:password@localhost:6379/0 (%-encoded)")
    return value
