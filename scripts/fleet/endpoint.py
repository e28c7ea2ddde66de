"""Where a service is, and its HTTP APIs for those with a token. Which requests to make does not
belong here."""

from __future__ import annotations

import json
import ssl
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from lab.recorder import connect

from ingest_api.settings import is_loopback

API = "/api/v1"
TIMEOUT_SECONDS = 30.0


class FleetError(Exception):
    """It cannot go on; the message says why, and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """Of a service: the host and the port, and for https how to know it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def from_url(cls, url: str) -> Endpoint:
        """ValueError unless it is http or https, a host and maybe a port, and nothing else."""
        parts = urlsplit(url)
        rest = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        if parts.scheme not in {"http", "https"} or not parts.hostname or rest:
            raise ValueError("must be like http://127.0.0.1:8000, without a path")
        if parts.scheme == "http":
            return cls(parts.hostname, parts.port or 80)
        return cls(parts.hostname, parts.port or 443, ssl.create_default_context())

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def local(self) -> bool:
        """Only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class Api:
    """Requests with one token, over one kept-alive connection, for one thread."""

    def __init__(self, endpoint: Endpoint, token: str) -> None:
        self.endpoint = endpoint
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connection = connect(endpoint.address, endpoint.tls, TIMEOUT_SECONDS)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status, and the answer's JSON, or None where it is none. FleetError."""
        status, content = self.fetch(method, path, body)
        try:
            return status, json.loads(content)
        except ValueError:
            return status, None

    def fetch(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """The status, and the answer's bytes. FleetError."""
        try:
            with suppress(ConnectionError, HTTPException):
                return self._exchange(method, path, body)
            self._connection.close()  # it was kept alive for too long, maybe
            return self._exchange(method, path, body)
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise FleetError(f"no answer from {self.endpoint}: {error!r}") from error

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        content = None if body is None else json.dumps(body, default=str)
        headers = self._headers | ({"Content-Type": "application/json"} if content else {})
        self._connection.request(method, path, content, headers)
        response = self._connection.getresponse()
        return response.status, response.read()
