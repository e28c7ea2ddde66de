"""Where a fleet uploads to, and who is asked for the verdict: a service of its own in a throw-away
folder, or one that runs already. What the fleet does there does not belong here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench_tools.machine import SERVING
from lab.service import Site

from fleet.endpoint import Api, Endpoint, FleetError
from fleet.sound import Sound
from fleet.tally import FleetTally
from fleet.verdict import Verdict, begin
from fleet.verdict_http import add_questions, add_replays, require_internal
from fleet.verdict_site import add_commands, add_comparison
from ingest_api.settings import DEFAULT_ADMIN_TOKEN, Settings
from ingest_api.tokens import generate_token


class Place(Protocol):
    """A service, as far as a fleet has to do with it."""

    endpoint: Endpoint
    admin: Api
    lasting: bool  # it goes on when the fleet has gone

    def judge(self, tally: FleetTally, sounds: Sequence[Sound]) -> Verdict:
        """Ask the service. The devices may still upload."""


class OwnSite:
    """A service that nobody else uses."""

    lasting = False

    def __init__(self, site: Site, admin: Api) -> None:
        self.endpoint, self.admin, self._site = admin.endpoint, admin, site

    def judge(self, tally: FleetTally, sounds: Sequence[Sound]) -> Verdict:
        verdict = begin(tally, self.admin)
        add_commands(verdict, self._site)
        add_comparison(verdict, self._site, tally)
        return verdict


class RunningService:
    """A service that was there before and goes on after."""

    lasting = True

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        if settings.admin_token == DEFAULT_ADMIN_TOKEN and not endpoint.local:
            raise FleetError(
                f"Set ADMIN_TOKEN, or ADMIN_TOKEN_FILE, to the admin token of {endpoint}."
            )
        self.endpoint, self.admin = endpoint, Api(endpoint, settings.admin_token)
        self._internal_token = settings.internal_token
        if self._internal_token:
            require_internal(Api(endpoint, self._internal_token))

    def judge(self, tally: FleetTally, sounds: Sequence[Sound]) -> Verdict:
        verdict = begin(tally, self.admin)
        if self._internal_token:
            add_questions(verdict, self.endpoint, self._internal_token, tally.acknowledged)
        else:
            add_replays(verdict, self.endpoint, tally, sounds)
        return verdict


@contextmanager
def own_site(folder: Path) -> Iterator[Place]:
    """For the main thread, see Site. SiteError, PostgresError."""
    token = generate_token()
    with Site(folder, workers=SERVING, environ={"ADMIN_TOKEN": token}) as site:
        yield OwnSite(site, Api(Endpoint(*site.address), token))


@contextmanager
def running_service(endpoint: Endpoint) -> Iterator[Place]:
    """With the tokens that the environment names. FleetError, SettingsError."""
    yield RunningService(endpoint, Settings.from_environ())
