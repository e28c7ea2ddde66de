"""The settings and how they are read. Whether one works (the database, the folder) is checked where
it is used.

Each setting is one environment variable named like its field in capitals. An empty value means
the default. A secret may instead be read from a file: `ADMIN_TOKEN_FILE=/run/secrets/admin`.
"""

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ingest_api.errors import OperatorError
from ingest_api.models.chunks import ChunkStatus
from ingest_api.models.fleet import Bounds
from ingest_api.settings_parsers import (
    boolean,
    directory,
    host,
    integer,
    log_format,
    log_level,
    origins,
    postgresql_url,
    queue_backend,
    redis_url,
    token,
    zone,
)

DEFAULT_ADMIN_TOKEN = "changeme-admin-token"  # noqa: S105  refused beyond loopback


class Fault(NamedTuple):
    """What is wrong with one setting, and what to do where that is not obvious."""

    message: str
    advice: str = ""  # begins in lower case

    def __str__(self) -> str:
        return str(OperatorError(*self))


class SettingsError(OperatorError):
    """Some settings are unusable. `faults` is by the name of the variable."""

    def __init__(self, faults: Mapping[str, Fault]) -> None:
        self.faults = faults
        lines = (f"{name}: {fault}" for name, fault in faults.items())
        super().__init__("\n".join(("These settings must be changed:", *lines)))


def _setting(default: str, parse: Callable[[str], Any], *, secret: bool = False) -> Any:
    return field(repr=not secret, metadata={"default": default, "parse": parse, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """All settings, checked. deploy/README.md says what each is for."""

    database_url: str = _setting(
        "postgresql+asyncpg://ingest:ingest@localhost:5432/ingest", postgresql_url, secret=True
    )
    database_pool_size: int = _setting("4", integer(1, 100))
    queue_backend: str = _setting("postgres", queue_backend)
    redis_url: str = _setting("redis://localhost:6379/0", redis_url, secret=True)
    max_attempts: int = _setting("5", integer(1, 1000))
    audio_storage_dir: Path = _setting("/var/lib/ingest_api/audio", directory)
    max_upload_size_bytes: int = _setting("10485760", integer(1, 2**40))
    min_free_bytes: int = _setting("268435456", integer(0, 2**60))
    admin_token: str = _setting(DEFAULT_ADMIN_TOKEN, token, secret=True)
    metrics_token: str = _setting("", token, secret=True)
    internal_token: str = _setting("", token, secret=True)
    naive_timestamp_zone: ZoneInfo | None = _setting("", zone)
    late_after_seconds: int = _setting("600", integer(60, 2**31 - 1))
    silent_after_seconds: int = _setting("900", integer(60, 2**31 - 1))
    host: str = _setting("0.0.0.0", host)  # noqa: S104  the specification's default
    port: int = _setting("8000", integer(1, 65535))
    workers: int = _setting(str(1 + (os.cpu_count() or 1)), integer(1, 1000))
    threads: int = _setting("384", integer(2, 1000))
    request_stall_seconds: int = _setting("20", integer(1, 3600))
    request_deadline_seconds: int = _setting("90", integer(1, 3600))
    log_level: str = _setting("INFO", log_level)
    log_format: str = _setting("", log_format)
    allow_newer_schema: bool = _setting("false", boolean)
    docs_enabled: bool = _setting("false", boolean)
    cors_enabled: bool = _setting("false", boolean)
    cors_origins: tuple[str, ...] = _setting("*", origins)

    @property
    def waiting_status(self) -> ChunkStatus:
        """Return the status of a new or requeued chunk: with Redis QUEUED only once announced."""
        return ChunkStatus.UPLOADED if self.queue_backend == "redis" else ChunkStatus.QUEUED

    @property
    def bounds(self) -> Bounds:
        """Return when a device counts as late, and when as silent."""
        late, silent = self.late_after_seconds, self.silent_after_seconds
        return Bounds(timedelta(seconds=late), timedelta(seconds=silent))

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] | None = None, *, serving: bool = False
    ) -> "Settings":
        """Read every setting. SettingsError names all faults at once and no secret's value.

        With `serving`, also refuse values that are harmless to commands but not to a server.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        faults: dict[str, Fault] = {}
        for item in fields(cls):
            try:
                text = _read(environ, item.name.upper(), secret=item.metadata["secret"])
                values[item.name] = item.metadata["parse"](text or item.metadata["default"])
            except ValueError as error:
                faults[item.name.upper()] = Fault(str(error))
        if serving:
            faults |= _faults_in_serving(**values)
        if faults:
            raise SettingsError(faults)
        return cls(**values)


def _faults_in_serving(
    *,
    host: str = "",
    admin_token: str = "",
    docs_enabled: bool = False,
    cors_enabled: bool = False,
    queue_backend: str = "",
    **_others: Any,
) -> dict[str, Fault]:
    faults = {}
    if admin_token == DEFAULT_ADMIN_TOKEN and host and not is_loopback(host):
        faults["ADMIN_TOKEN"] = Fault(
            f"the published default must not be used when HOST is {host}, which others can reach",
            "set ADMIN_TOKEN to a secret (openssl rand -hex 24), or HOST to 127.0.0.1",
        )
    if docs_enabled and not find_spec("flask_swagger_ui"):
        faults["DOCS_ENABLED"] = _missing_extra("docs")
    if cors_enabled and not find_spec("flask_cors"):
        faults["CORS_ENABLED"] = _missing_extra("cors")
    if queue_backend == "redis" and not find_spec("redis"):
        faults["QUEUE_BACKEND"] = _missing_extra("redis")
    return faults


def _missing_extra(name: str) -> Fault:
    return Fault(f"needs the extra `{name}`", f"run: pip install 'ingest-api[{name}]'")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
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
