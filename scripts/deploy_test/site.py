"""A machine with the service on it, as an operator, a recorder and a worker reach it.

What is tried on it does not belong here.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from lab.recorder import Recorder, connect

from deploy_test.checkout import copy_checkout
from deploy_test.machine import Machine
from deploy_test.report import Failed
from ingest_api.tokens import generate_token

HOST, HTTP_PORT, HTTPS_PORT, INNER_PORT = "127.0.0.1", 80, 443, 8000
HTTPS, INNER = (HOST, HTTPS_PORT), (HOST, INNER_PORT)
PORTS = (HTTP_PORT, HTTPS_PORT, 5432, 6379, INNER_PORT)
SOURCE = "/srv/ingest-api"
BACKUPS = "/var/backups/ingest-api"
OPTIONS = ("--server-name", "localhost", "--retention", "90d", "--backup-dir", BACKUPS)
READY_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What the service said."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """The service on `machine`, which is booted, and where it may not be installed yet."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.source = SOURCE  # the checkout that was installed last, as the machine sees it
        self._tls: ssl.SSLContext | None = None

    @property
    def root(self) -> Path:
        """Where its files are, seen from here."""
        return self.machine.root

    @property
    def storage(self) -> Path:
        return self.root / "var/lib/ingest_api/audio"

    @property
    def is_installed(self) -> bool:
        return (self.root / "opt/ingest-api/current").is_symlink()

    def bring_checkout(self, name: str = SOURCE) -> Path:
        """Put this checkout onto the machine: its folder, seen from here."""
        target = self.root / name.lstrip("/")
        copy_checkout(target)
        return target

    def install(
        self, *options: str, source: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """deploy/install, as it says in its README.md."""
        source = source or self.source
        done = self.machine.run(f"{source}/deploy/install", *OPTIONS, *options, check=check)
        if not done.returncode:
            self.source = source
        self._tls = None  # it may have made a new certificate
        return done

    def ingest(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`flask ingest`, as an operator calls it there."""
        return self.machine.run("ingest", *arguments, check=check)

    @property
    def tls(self) -> ssl.SSLContext:
        """Trusts the certificate of this machine, and no other."""
        if self._tls is None:
            context = ssl.create_default_context(
                cafile=self.root / "etc/ingest-api/tls/fullchain.pem"
            )
            context.check_hostname = False  # it is called localhost, and asked by its address
            self._tls = context
        return self._tls

    @property
    def database_url(self) -> str:
        """For the role of the system's root, over the socket of its PostgreSQL, from out here."""
        system = Path(f"/proc/{self.machine.leader}/root")  # as the machine sees it
        return f"postgresql:///ingest?user=root&host={system / 'run/postgresql'}"

    def let_root_look(self) -> None:
        """Make that role."""
        self.machine.shell(
            "cd / && runuser -u postgres -- createuser --superuser root", check=False
        )

    @property
    def settings(self) -> Path:
        return self.root / "etc/ingest-api/ingest-api.env"

    def setting(self, name: str) -> str:
        """What its settings file says."""
        for line in self.settings.read_text().splitlines():
            if line.startswith(f"{name}="):
                return line.partition("=")[2]
        raise Failed(f"{name} is not in /etc/ingest-api/ingest-api.env")

    def ask(
        self,
        path: str,
        *,
        address: tuple[str, int] = HTTPS,
        token: str = "",
        source: str = "",
        given: Any = None,
    ) -> Answer:
        """One request over a connection of its own; with TLS where the port is for that. It is a
        POST when something is given, as JSON."""
        tls = self.tls if address == HTTPS else None
        connection = connect(address, tls, timeout=30, source=source)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        method, body = "GET", None
        if given is not None:
            method, body = "POST", json.dumps(given)
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def new_recorder(self) -> Recorder:
        """Register a device, by the admin API as it is reached on the machine itself."""
        ids = {name: uuid4() for name in ("device_id", "point_id", "register_id")}
        token = generate_token()
        answer = self.ask(
            "/api/v1/admin/devices",
            address=INNER,
            token=self.setting("ADMIN_TOKEN"),
            given={name: str(value) for name, value in ids.items()} | {"token_plain": token},
        )
        if answer.status != 201:
            raise Failed(f"a device cannot be registered: {answer.status} {answer.body!r}")
        return Recorder(**ids, token=token)

    def add_device(self) -> Recorder:
        """The same, by the command."""
        told = json.loads(self.ingest("add-device", "--json").stdout)
        ids = {name: UUID(told[name]) for name in ("device_id", "point_id", "register_id")}
        return Recorder(**ids, token=told["token"])

    def is_healthy(self) -> bool:
        with suppress(OSError, HTTPException):
            return self.ask("/health").status == 200
        return False

    def wait_until_healthy(self, seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_healthy():
            if time.monotonic() > deadline:
                raise Failed(f"GET https://localhost/health is not 200 within {seconds:.0f} s")
            time.sleep(0.2)

    def release(self) -> str:
        """The version that `current` leads to."""
        program = "/opt/ingest-api/current/bin/ingest-api"
        return self.machine.run(program, "--version").stdout.split()[-1]

    def serving_since(self) -> str:
        """Changes when gunicorn is started anew."""
        return self.machine.shell("systemctl show ingest-api -p MainPID -p ExecMainStartTimestamp")
