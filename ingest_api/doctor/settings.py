"""The settings: faulty ones, and valid ones that are unsafe."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ingest_api.doctor.findings import Finding, fail, ok, warn
from ingest_api.settings import DEFAULT_ADMIN_TOKEN, Fault, Settings, SettingsError

SHORTEST_TOKEN = 16  # as for a device's


@dataclass(frozen=True)
class Reading:
    """The valid settings, and the faults of the others by name.

    A faulty one has its default in `settings`, which means nothing: check `lacks` first.
    """

    settings: Settings
    faults: Mapping[str, Fault]

    def lacks(self, *names: str) -> bool:
        return any(name in self.faults for name in names)


def read_settings(environ: Mapping[str, str]) -> Reading:
    """Return what a server would read, with the faults that would keep it from starting."""
    try:
        return Reading(Settings.from_environ(environ, serving=True), {})
    except SettingsError as error:
        faults = error.faults
    rest = {k: v for k, v in environ.items() if k.removesuffix("_FILE") not in faults}
    return Reading(Settings.from_environ(rest), faults)


def check_settings(reading: Reading) -> Iterator[Finding]:
    settings = reading.settings
    if not reading.faults:
        yield ok("settings", "all are valid")
    for name, fault in reading.faults.items():
        advice = fault.advice or f"correct {name}; see deploy/README.md"
        yield fail(name, fault.message, advice)
    if not reading.lacks("ADMIN_TOKEN"):
        yield _judge_token("ADMIN_TOKEN", settings.admin_token)
    if not reading.lacks("INTERNAL_TOKEN"):
        yield _judge_internal_token(settings)
    if not reading.lacks("NAIVE_TIMESTAMP_ZONE"):
        yield _judge_zone(settings)
    yield from _check_dotenv_file(Path(".env"))


def _judge_token(name: str, token: str) -> Finding:
    cure = f"set {name} to a secret: openssl rand -hex 24"
    if token == DEFAULT_ADMIN_TOKEN:
        return warn(name, "is the published default, known to every user of this machine", cure)
    if len(token) < SHORTEST_TOKEN:
        return warn(name, f"has fewer than {SHORTEST_TOKEN} characters and can be guessed", cure)
    return ok(name, "is not the default, and long enough")


def _judge_internal_token(settings: Settings) -> Finding:
    name, token = "INTERNAL_TOKEN", settings.internal_token
    if not token:
        return ok(name, "is not set: the internal API answers 401")
    if token == settings.admin_token:
        return warn(
            name,
            "is the same as ADMIN_TOKEN: a worker could manage devices",
            f"set {name} to a secret of its own: openssl rand -hex 24",
        )
    return _judge_token(name, token)


def _judge_zone(settings: Settings) -> Finding:
    name, zone = "NAIVE_TIMESTAMP_ZONE", settings.naive_timestamp_zone
    if zone is None:
        return ok(name, "is not set: timestamps without an offset get 422")
    return ok(name, f"is {zone.key}: timestamps without an offset are read in it")


def _check_dotenv_file(path: Path) -> Iterator[Finding]:
    try:
        status = path.stat()
    except OSError:
        return  # no settings came from it
    yield judge_dotenv_file(status.st_mode & 0o777, ours=status.st_uid == os.geteuid())


def judge_dotenv_file(mode: int, *, ours: bool) -> Finding:
    """Judge who may read it besides its owner: nobody or, if that is root, the service's group."""
    if mode & (0o077 if ours else 0o037):
        return warn(".env", f"has mode {mode:o}: others can read it", "chmod 600 .env")
    return ok(".env", "is private")
