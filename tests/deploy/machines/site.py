"""A machine with the service on it, as operators, devices and workers reach it."""

import json
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from lab.recorder import Attempt, Chunk, Recorder, RecorderAgent, connect
from machines.checkout import copy_checkout
from machines.machine import Machine
from support.ledger import Ledger, audit
from support.load import START, Load
from support.processes import eventually
from support.recorder import SPEECH

from ingest_api.tokens import generate_token

HTTP, HTTPS, INNER = (("127.0.0.1", port) for port in (80, 443, 8000))
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


class Site:
    """The service on a machine that is booted; it may not be installed yet."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.root = machine.root
        self.storage = self.root / "var/lib/ingest_api/audio"
        self.settings = self.root / "etc/ingest-api/ingest-api.env"
        self.ledger = Ledger(proxied=True)

    @property
    def is_installed(self) -> bool:
        """Whether a version is installed."""
        return (self.root / "opt/ingest-api/current").is_symlink()

    def outside(self, path: str) -> Path:
        """Return where a path of the machine is, seen from here."""
        return self.root / path.lstrip("/")

    def bring_checkout(self, name: str = SOURCE) -> Path:
        """Put this checkout onto the machine, and return its folder, seen from here."""
        copy_checkout(self.outside(name))
        return self.outside(name)

    def install(
        self, *options: str, source: str = SOURCE, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run deploy/install as its README.md says."""
        done = self.machine.run(f"{source}/deploy/install", *OPTIONS, *options, check=check)
        # This process reads the database as the role of the machine's root.
        create = "cd / && runuser -u postgres -- createuser --superuser root"
        self.machine.shell(create, check=False)
        return done

    def ingest(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `ingest`, which is `flask ingest` as an operator calls it there."""
        return self.machine.run("ingest", *arguments, check=check)

    @property
    def tls(self) -> ssl.SSLContext:
        """Trusts the certificate of this machine and no other."""
        certificate = self.root / "etc/ingest-api/tls/fullchain.pem"
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False  # it is for localhost, and reached by its address
        return context

    @property
    def database_url(self) -> str:
        """The database over the socket of the machine's PostgreSQL, as its superuser."""
        folder = Path(f"/proc/{self.machine.leader}/root/run/postgresql")
        return f"postgresql:///ingest?user=root&host={folder}"

    def setting(self, name: str) -> str:
        """Return what the settings file says."""
        lines = self.settings.read_text().splitlines()
        [value] = [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]
        return value

    def ask(
        self,
        path: str,
        *,
        address: tuple[str, int] = HTTPS,
        token: str = "",
        source: str = "",
        json_body: Any = None,
    ) -> Answer:
        """Make a request over a connection of its own: a POST when there is a body."""
        connection = connect(address, self.tls if address == HTTPS else None, 30, source)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        method, body = "GET", None
        if json_body is not None:
            method, body = "POST", json.dumps(json_body)
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def new_recorder(self) -> Recorder:
        """Register a device through the admin API, as it is reached on the machine itself."""
        ids = {name: uuid4() for name in ("device_id", "point_id", "register_id")}
        token = generate_token()
        body = {name: str(value) for name, value in ids.items()} | {"token_plain": token}
        admin = self.setting("ADMIN_TOKEN")
        answer = self.ask("/api/v1/admin/devices", address=INNER, token=admin, json_body=body)
        assert answer.status == 201, answer
        return Recorder(**ids, token=token)

    def add_device(self) -> Recorder:
        """Register a device with the command."""
        told = json.loads(self.ingest("add-device", "--json").stdout)
        ids = {name: UUID(told[name]) for name in ("device_id", "point_id", "register_id")}
        return Recorder(**ids, token=told["token"])

    def upload(self) -> dict[str, Any]:
        """Upload a minute of speech from a new device, and return the answer."""
        recorder = self.add_device()
        self.ledger.recorded()
        agent = RecorderAgent(recorder, HTTPS, lambda *_: None, tls=self.tls)
        attempt: Attempt = agent.attempt(Chunk(START, SPEECH, recorder.device_id.bytes))
        self.ledger.record(recorder, attempt)
        assert attempt.accepted, attempt.error or attempt.answer
        assert attempt.answer
        return attempt.answer

    @contextmanager
    def uploading(self, *, devices: int = 20, rate: float = 20.0) -> Iterator[Load]:
        """Upload through nginx from new devices; in the end each chunk is accepted."""
        recorders = [self.new_recorder() for _ in range(devices)]
        load = Load(recorders, HTTPS, rate=rate, tls=self.tls)
        try:
            with load.running():
                yield load
        finally:
            self.ledger.include(load.ledger)
        assert load.ledger.pending == 0, load.ledger.failures
        print(f"{len(load.ledger.receipts)} uploads, the longest {max(load.seconds):.1f} s")

    def assert_nothing_lost(self) -> None:
        """Compare all rows and files with what devices were told, and run fsck."""
        found = audit(self.ledger, self.database_url, self.storage)
        assert not found.problems, found
        checked = self.ingest("fsck", "--checksums", check=False)
        assert checked.returncode == 0, checked

    def is_healthy(self) -> bool:
        """Whether /health is green through nginx."""
        with suppress(OSError, HTTPException):
            return self.ask("/health").status == 200
        return False

    def wait_until_healthy(self) -> None:
        """Return once /health is green."""
        eventually(self.is_healthy, READY_SECONDS)

    def version(self) -> str:
        """Return the version that `current` leads to."""
        return self.machine.run(
            "/opt/ingest-api/current/bin/ingest-api", "--version"
        ).stdout.split()[-1]

    def serving_release(self) -> str:
        """Return the release that runs and that `current` leads to, once it is healthy."""
        self.wait_until_healthy()
        # By the libraries that gunicorn has mapped: their paths are the real ones.
        runs = self.machine.shell(
            "grep -o 'releases/[^/]*' /proc/$(systemctl show -P MainPID ingest-api)/maps | sort -u"
        )
        assert runs == self.machine.shell("readlink /opt/ingest-api/current")
        return runs


Boot = Callable[[], Site]
"""What the fixture `boot` is."""
