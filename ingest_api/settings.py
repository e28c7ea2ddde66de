"""What can be set from outside, and how it is read. Whether a setting works (the database, the
folder) is for those who use it.

Each setting is one environment variable named like its field in capitals. An empty value means
the default. Secrets may instead be named by a file: `ADMIN_TOKEN_FILE=/run/secrets/admin`.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
from psycopg.conninfo import conninfo_to_dict

DEFAULT_ADMIN_TOKEN = "changeme-admin-token"  # noqa: S105  refused beyond loopback
QUEUE_BACKENDS = ("postgres", "redis")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class SettingsError(Exception):
    """Some settings are unusable; the message has one line a fault, each naming its variable."""


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,19}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def _boolean(value: str) -> bool:
    if value.lower() in {"true", "1", "yes", "on"}:
        return True
    if value.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("must be true or false")


def _log_level(value: str) -> str:
    if value.upper() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return value.upper()


def _host(value: str) -> str:
    if re.fullmatch(r"[0-9A-Za-z._-]+", value):
        return value
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an address or a host name") from None


def _zone(value: str) -> ZoneInfo | None:
    if not value:
        return None
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be an IANA time zone such as Europe/Berlin") from None


def _directory(value: str) -> Path:
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise ValueError("must be a folder; there is no such user") from None


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in value.split(",") if origin.strip())
    if not all(re.fullmatch(r"\*|https?://[0-9A-Za-z.:_\[\]-]+", origin) for origin in origins):
        raise ValueError("must be origins such as https://shop.example, or *")
    return origins


def _token(value: str) -> str:
    if value and not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("must be printable ASCII without spaces")
    return value


def _postgresql_url(value: str) -> str:
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


def _queue_backend(value: str) -> str:
    if value.lower() not in QUEUE_BACKENDS:
        raise ValueError(f"must be one of {', '.join(QUEUE_BACKENDS)}")
    return value.lower()


def _redis_url(value: str) -> str:
    """Strict, because redis-py takes a part of the password for the port where / # or ? in it are
    not escaped, and tells it; and a database that it cannot read for database 0."""
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


def _setting(default: str, parse: Callable[[str], Any], *, secret: bool = False) -> Any:
    return field(repr=not secret, metadata={"default": default, "parse": parse, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """All settings, checked. README.md says what each is for."""

    database_url: str = _setting(
        "postgresql+asyncpg://ingest:ingest@localhost:5432/ingest", _postgresql_url, secret=True
    )
    database_pool_size: int = _setting("4", _integer(1, 100))
    queue_backend: str = _setting("postgres", _queue_backend)
    redis_url: str = _setting("redis://localhost:6379/0", _redis_url, secret=True)
    max_attempts: int = _setting("5", _integer(1, 1000))
    audio_storage_dir: Path = _setting("/var/lib/ingest_api/audio", _directory)
    max_upload_size_bytes: int = _setting("10485760", _integer(1, 2**40))
    min_free_bytes: int = _setting("268435456", _integer(0, 2**60))
    admin_token: str = _setting(DEFAULT_ADMIN_TOKEN, _token, secret=True)
    internal_token: str = _setting("", _token, secret=True)
    naive_timestamp_zone: ZoneInfo | None = _setting("", _zone)
    host: str = _setting("0.0.0.0", _host)  # noqa: S104  the specification's default
    port: int = _setting("8000", _integer(1, 65535))
    workers: int = _setting(str(1 + (os.cpu_count() or 1)), _integer(1, 1000))
    threads: int = _setting("384", _integer(2, 1000))
    request_stall_seconds: int = _setting("20", _integer(1, 3600))
    request_deadline_seconds: int = _setting("90", _integer(1, 3600))
    log_level: str = _setting("INFO", _log_level)
    allow_newer_schema: bool = _setting("false", _boolean)
    cors_enabled: bool = _setting("false", _boolean)
    cors_origins: tuple[str, ...] = _setting("*", _origins)

    @property
    def waiting_status(self) -> str:
        """With which a chunk begins to wait for a worker: one that is to be announced in Redis is
        not QUEUED before it was."""
        return "UPLOADED" if self.queue_backend == "redis" else "QUEUED"

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] | None = None, *, serving: bool = False
    ) -> "Settings":
        """Read every setting; SettingsError names all faults at once and no secret's value.

        With `serving`, also refuse what is harmless to commands but not to a server.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        faults: list[str] = []
        for item in fields(cls):
            try:
                text = _read(environ, item.name.upper(), secret=item.metadata["secret"])
                values[item.name] = item.metadata["parse"](text or item.metadata["default"])
            except ValueError as error:
                faults.append(f"{item.name.upper()}: {error}")
        if serving:
            faults += _faults_in_serving(**values)
        if faults:
            raise SettingsError("\n".join(faults))
        return cls(**values)


def _faults_in_serving(
    *,
    host: str = "",
    admin_token: str = "",
    cors_enabled: bool = False,
    queue_backend: str = "",
    **_others: Any,
) -> list[str]:
    faults = []
    if admin_token == DEFAULT_ADMIN_TOKEN and host and not is_loopback(host):
        faults.append(
            f"ADMIN_TOKEN: the published default must not be used when HOST is {host}, which "
            "others can reach. Set ADMIN_TOKEN to a secret (openssl rand -hex 24), or HOST to "
            "127.0.0.1"
        )
    if cors_enabled and not find_spec("flask_cors"):
        faults.append("CORS_ENABLED: needs the extra `cors`: pip install 'ingest-api[cors]'")
    if queue_backend == "redis" and not find_spec("redis"):
        faults.append("QUEUE_BACKEND: needs the extra `redis`: pip install 'ingest-api[redis]'")
    return faults


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(environ: Mapping[str, str], name: str, *, secret: bool) -> str:
    value = environ.get(name, "").strip()
    file = environ.get(f"{name}_FILE", "").strip() if secret else ""
    if not file:
        return value
    if value:
        raise ValueError(f"is set twice: remove either {name} or {name}_FILE")
    try:
        content = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"the file that {name}_FILE names cannot be read: {file}") from None
    if not content:
        raise ValueError(f"the file that {name}_FILE names is empty: {file}")
    return content
